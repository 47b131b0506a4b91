# SPDX-License-Identifier: Apache-2.0
"""Person detection that needs no weights: OpenCV's HOG people detector, made fit for live use."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hmr_ros.perception.crops import check_image
from hmr_ros.perception.person import PersonBox

# OpenCV's people window is 64 x 128; the person in it is 96 high with 16 of margin on each side.
_WINDOW_WIDTH, _WINDOW_HEIGHT, _PERSON_HEIGHT = 64, 128, 96
# Of the window's width, the part that a standing or walking person fills.
_PERSON_WIDTH = 40
_LEVEL_STEP = 1.1
_FINE_LEVELS, _COARSE_LEVELS, _NEAR_LEVELS = _LEVELS = 5, 64, 3
_MERGE_OVERLAP = 0.4
# Enlarged further, an image shows the detector nothing more.
_MOST_SCALE = 4.0


@dataclass(frozen=True)
class HogSettings:
    """
    What is looked for and how much time it may cost.

    min_person  smallest person, as a part of the image height; smaller costs more, as its square
    min_weight  lowest weight of the support vector machine that counts as a person
    min_hits    fewest overlapping windows that count as a person
    scan_frames 2 to 6, for video: each frame looks around the people seen before and in that part
                of all places and sizes; 1, for pictures without a connection: each frame looks
                everywhere
    max_people  most people returned, the best scores first
    """

    min_person: float = 0.11
    min_weight: float = 0.3
    min_hits: int = 2
    scan_frames: int = 6
    max_people: int = 32


@dataclass(frozen=True)
class _Region:
    """Part of the image, seen at `scale`; `levels` sizes are tried from the smallest person up."""

    x0: int
    y0: int
    x1: int
    y1: int
    scale: float
    levels: int
    stride: int
    padding: int


class HogPersonDetector:
    """
    Finds standing and walking people whose body is in full view.

    Boxes are tight on the person. Not for several threads at once.
    """

    def __init__(self, settings: HogSettings = HogSettings()) -> None:
        self._settings = settings
        # The number of sizes is fixed when a descriptor is made.
        self._hogs = {levels: _descriptor(levels) for levels in _LEVELS}
        self._frame = 0
        self._recent: list[tuple[np.ndarray, int]] = []

    def reset(self) -> None:
        """Forget the people seen before."""
        self._frame, self._recent = 0, []

    def detect(self, image_bgr: np.ndarray) -> list[PersonBox]:
        """
        Find the people in an image, uint8 `(H, W, 3)` BGR, best first, without track ids.

        Raises PerceptionError when the image is not of that kind.
        """
        check_image(image_bgr, 'bgr')
        gray = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
        regions, parts = self._scan_regions(gray.shape), self._settings.scan_frames
        if parts == 1:
            return self._search(gray, regions)
        share = regions[self._frame % parts::parts]
        self._frame += 1
        nearby = [self._near(box, gray.shape) for box, _ in self._recent]
        people = self._search(gray, [*share, *nearby])
        self._remember(people)
        return people

    def _search(self, gray: np.ndarray, regions: list[_Region]) -> list[PersonBox]:
        found = [self._windows(gray, region) for region in regions]
        windows = np.concatenate([boxes for boxes, _ in found] or [np.zeros((0, 4))])
        weights = np.concatenate([weights for _, weights in found] or [np.zeros(0)])
        return _merge(windows, weights, self._settings)

    def _scan_regions(self, shape: tuple[int, int]) -> list[_Region]:
        """Six parts of about equal cost: strips for small people, then larger and largest ones."""
        height, width = shape
        scale = min(_PERSON_HEIGHT / (self._settings.min_person * height), _MOST_SCALE)
        larger = _LEVEL_STEP ** _FINE_LEVELS
        # A strip must hold all of a person who stands on its border.
        half = 0.5 * larger * _WINDOW_WIDTH / scale
        borders = np.linspace(0, width, 5)
        strips = [
            _Region(max(int(x0 - half), 0), 0, min(int(x1 + half), width), height, scale,
                    _FINE_LEVELS, 8, 16)
            for x0, x1 in zip(borders, borders[1:])]
        rest = [
            _Region(0, 0, width, height, scale / larger, _FINE_LEVELS, 8, 16),
            _Region(0, 0, width, height, scale / larger ** 2, _COARSE_LEVELS, 8, 16)]
        # In this order two or three neighbours in turn cost about the same, too.
        return [strips[0], strips[1], rest[0], strips[2], strips[3], rest[1]]

    def _near(self, box: np.ndarray, shape: tuple[int, int]) -> _Region:
        """Surroundings of a person seen before, some sizes below and above theirs."""
        x, y, tall = 0.5 * (box[0] + box[2]), 0.5 * (box[1] + box[3]), box[3] - box[1]
        scale = _PERSON_HEIGHT / tall * _LEVEL_STEP
        half_x, half_y = 0.45 * tall, 0.8 * tall
        x0, y0 = max(int(x - half_x), 0), max(int(y - half_y), 0)
        x1, y1 = min(int(x + half_x), shape[1]), min(int(y + half_y), shape[0])
        return _Region(x0, y0, x1, y1, scale, _NEAR_LEVELS, 4, 8)

    def _windows(self, gray: np.ndarray, region: _Region) -> tuple[np.ndarray, np.ndarray]:
        """All windows with a person, `(M, 4)` x0, y0, x1, y1 in the image, and weights `(M,)`."""
        part = gray[region.y0:region.y1, region.x0:region.x1]
        tall, wide = (np.array(part.shape) * region.scale).astype(int)
        border = 2 * region.padding
        if tall + border < _WINDOW_HEIGHT or wide + border < _WINDOW_WIDTH or not part.size:
            return np.zeros((0, 4)), np.zeros(0)
        part = cv2.resize(
            part, (wide, tall),
            interpolation=cv2.INTER_AREA if region.scale < 1 else cv2.INTER_LINEAR)
        boxes, weights = self._hogs[region.levels].detectMultiScale(
            part, hitThreshold=0.0, winStride=(region.stride, region.stride),
            padding=(region.padding, region.padding), scale=_LEVEL_STEP, groupThreshold=0)
        boxes = np.reshape(boxes, (-1, 4)).astype(np.float64)
        boxes[:, 2:] += boxes[:, :2]
        boxes = boxes / region.scale + (region.x0, region.y0, region.x0, region.y0)
        return boxes, np.reshape(weights, -1).astype(np.float64)

    def _remember(self, people: list[PersonBox]) -> None:
        """Keep looking, for as long as a whole scan takes, where somebody was and is not found."""
        boxes = [person.box for person in people]
        kept = [
            (box, age + 1) for box, age in self._recent
            if age < self._settings.scan_frames
            and (not boxes or overlaps(box[None], np.stack(boxes)).max() < _MERGE_OVERLAP)]
        self._recent = [(box, 0) for box in boxes] + kept


def _descriptor(levels: int) -> cv2.HOGDescriptor:
    hog = cv2.HOGDescriptor(
        (_WINDOW_WIDTH, _WINDOW_HEIGHT), (16, 16), (8, 8), (8, 8), 9, 1, -1,
        cv2.HOGDescriptor_L2Hys, 0.2, True, levels)
    hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())
    return hog


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union `(M, N)` of boxes `(M, 4)` and `(N, 4)`, x0, y0, x1, y1."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(np.maximum(b[:, 2:] - b[:, :2], 0), axis=-1) for b in (first, second)]
    union = areas[0][:, None] + areas[1][None] - common
    return common / np.where(union > 0, union, 1)


def score_of(weight: float) -> float:
    """Score of a person, 0 to 1, whose best window has this weight."""
    # The machine's weight is a distance from its decision border: 0 is even chances.
    return float(1 / (1 + np.exp(-2 * weight)))


def _tight(window: np.ndarray) -> np.ndarray:
    """Cut the margin of a HOG window down to the person."""
    x, tall = 0.5 * (window[0] + window[2]), window[3] - window[1]
    margin = 0.5 * (1 - _PERSON_HEIGHT / _WINDOW_HEIGHT) * tall
    half = 0.5 * _PERSON_WIDTH / _WINDOW_HEIGHT * tall
    return np.float32([x - half, window[1] + margin, x + half, window[3] - margin])


def _inside(window: np.ndarray, others: list[np.ndarray]) -> bool:
    """Tell whether a window holds, or lies in, one of `others` of quite another size."""
    for other in others:
        small, large = sorted((window, other), key=lambda w: w[3] - w[1])
        if large[3] - large[1] > 1.4 * (small[3] - small[1]):
            common = np.minimum(small[2:], large[2:]) - np.maximum(small[:2], large[:2])
            if np.all(common > 0) and np.prod(common) > 0.6 * np.prod(small[2:] - small[:2]):
                return True
    return False


def _merge(windows: np.ndarray, weights: np.ndarray, settings: HogSettings) -> list[PersonBox]:
    """Cluster overlapping windows around the best of them; boxes are weighted means."""
    people, kept = [], []
    left = np.argsort(-weights)
    while len(left) and len(people) < settings.max_people:
        best = left[0]
        if weights[best] < settings.min_weight:
            break
        close = overlaps(windows[best:best + 1], windows[left])[0] > _MERGE_OVERLAP
        members, left = left[close], left[~close]
        if len(members) < settings.min_hits or _inside(windows[best], kept):
            continue
        kept.append(windows[best])
        window = np.average(windows[members], axis=0, weights=weights[members] + 1e-6)
        people.append(PersonBox(_tight(window), score_of(weights[best])))
    return people
