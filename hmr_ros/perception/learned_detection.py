# SPDX-License-Identifier: Apache-2.0
"""Person detection by an engine of mgil's detector (mgil sheet, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hmr_ros.perception.crop_reading import DescribedNetwork, Outputs, Tensor
from hmr_ros.perception.crops import check_image, level_tables, normalise
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.person import PersonBox

#: grey of the parts of the network's input that the picture leaves free.
FREE_GREY = 114
#: the sides of the network's input are multiples of its largest stride.
STRIDE = 32
# Suppression takes time that grows as the square of these; a crowd has fewer.
_MOST_CANDIDATES = 512
# Values 0 to 1, not normalised further.
_LEVELS = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_CHOOSE = 'Choose an engine of the network mgil_detector'


@dataclass(frozen=True)
class LearnedSettings:
    """
    What counts as a person.

    min_score    lowest score that counts
    max_overlap  intersection over union with a better box up to which one is somebody else
    min_person   smallest person, as a part of the image height
    max_people   most people returned, the best scores first
    """

    min_score: float = 0.5
    max_overlap: float = 0.5
    min_person: float = 0.02
    max_people: int = 32


@dataclass(frozen=True)
class Letterbox:
    """
    Where an image lies in a network's input: as large as it goes, in the middle.

    x_input = x_image * scale[0] + corner[0], the same for y.

    room    height and width of the input in pixels
    size    height and width of the image in it
    corner  (2,) x, y of the image's corner in it
    scale   (2,) input pixels per image pixel, along x and y
    """

    room: tuple[int, int]
    size: tuple[int, int]
    corner: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, image: tuple[int, int], room: tuple[int, int]) -> Letterbox:
        """Place an image of a height and width in an input of a height and width."""
        share = min(room[0] / image[0], room[1] / image[1])
        tall, wide = (min(max(round(share * side), 1), most) for side, most in zip(image, room))
        corner = np.array([(room[1] - wide) // 2, (room[0] - tall) // 2])
        return cls(room, (tall, wide), corner, np.array([wide / image[1], tall / image[0]]))

    def fill(self, image: np.ndarray) -> np.ndarray:
        """Return the input `(*room, 3)` uint8 with `image`, uint8 `(H, W, 3)`, on grey."""
        tall, wide = self.size
        # The mean of the pixels that become one: fine patterns do not alias.
        smaller = tall < image.shape[0] or wide < image.shape[1]
        picture = cv2.resize(
            image, (wide, tall), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        left, top = map(int, self.corner)
        return cv2.copyMakeBorder(
            picture, top, self.room[0] - tall - top, left, self.room[1] - wide - left,
            cv2.BORDER_CONSTANT, value=(FREE_GREY,) * 3)

    def to_image(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes `(..., 4)` x0, y0, x1, y1 in pixels of the input to pixels of the image."""
        return (boxes - np.tile(self.corner, 2)) / np.tile(self.scale, 2)


class LearnedPersonDetector:
    """
    Finds people by a network; each frame is searched whole, and none is remembered.

    Boxes are tight on the person. Not for several threads at once.
    """

    def __init__(
            self, engine: DescribedNetwork, settings: LearnedSettings = LearnedSettings()) -> None:
        """
        Take an engine with the input `image` and the outputs `boxes` and `scores`.

        Raises PerceptionError when its tensors are not those of a person detector.
        """
        self._engine, self._settings = engine, settings
        self._room = _input_size(engine)
        self._candidates = _candidate_count(engine)
        self._tables = level_tables(*_LEVELS)
        self._batch = np.empty((1, 3, *self._room), np.float32)

    def reset(self) -> None:
        """Forget the people seen before: there is nothing to forget."""

    def detect(self, image_bgr: np.ndarray) -> list[PersonBox]:
        """
        Find the people in an image, uint8 `(H, W, 3)` BGR, best first, without track ids.

        Raises PerceptionError when the image is not of that kind or the engine's numbers cannot be
        used, and passes on the engine's own error.
        """
        check_image(image_bgr, 'bgr')
        letterbox = Letterbox.of(image_bgr.shape[:2], self._room)
        normalise(letterbox.fill(image_bgr), 'bgr', self._tables, self._batch[0])
        outputs = self._engine.run({'image': self._batch})
        self._check(outputs)
        boxes, scores = self._likely(outputs['boxes'][0], outputs['scores'][0, :, 0])
        boxes, scores = _within(letterbox.to_image(boxes), scores, image_bgr.shape[:2],
                                self._settings.min_person)
        kept = _distinct(boxes, scores, self._settings.max_overlap)[:self._settings.max_people]
        return [PersonBox(np.float32(boxes[i]), float(scores[i])) for i in kept]

    def _check(self, outputs: Outputs) -> None:
        for name, width in (('boxes', 4), ('scores', 1)):
            shape, expected = np.shape(outputs.get(name)), (1, self._candidates, width)
            if shape != expected:
                raise PerceptionError(
                    f'engine output {name!r} has shape {shape}; expected {expected}. {_CHOOSE}')
            if not np.all(np.isfinite(outputs[name])):
                raise PerceptionError(
                    f'engine output {name!r} has numbers that are not finite; try precision fp32')

    def _likely(self, boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and scores that may be people, at most _MOST_CANDIDATES of them."""
        likely = np.flatnonzero(scores >= self._settings.min_score)
        if len(likely) > _MOST_CANDIDATES:
            best = np.argpartition(-scores[likely], _MOST_CANDIDATES)[:_MOST_CANDIDATES]
            likely = likely[best]
        return boxes[likely].astype(np.float64), scores[likely]


def _within(
        boxes: np.ndarray, scores: np.ndarray, shape: tuple[int, int],
        min_person: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut boxes to the image, and leave out those of too small people."""
    height, width = shape
    boxes = np.clip(boxes, 0, (width, height, width, height))
    wide, tall = (boxes[:, 2:] - boxes[:, :2]).T
    kept = (wide > 0) & (tall > 0) & (tall >= min_person * height)
    return boxes[kept], scores[kept]


def _distinct(boxes: np.ndarray, scores: np.ndarray, max_overlap: float) -> np.ndarray:
    """Indices of the boxes that are left by non-maximum suppression, best first."""
    corners_and_sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    # Lists, as arrays take twice as long. A score of 0 does not count.
    kept = cv2.dnn.NMSBoxes(corners_and_sizes.tolist(), scores.tolist(), 0.0, max_overlap)
    # Older versions return a column, and a tuple when there is nothing.
    return np.reshape(kept, -1).astype(np.intp)


def _shapes(tensors: list[Tensor] | tuple[Tensor, ...]) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tuple(tensor.shape) for tensor in tensors}


def _input_size(engine: DescribedNetwork) -> tuple[int, int]:
    """Height and width of the input."""
    shapes = _shapes(engine.inputs)
    image = shapes.get('image', ())
    if (len(shapes) != 1 or len(image) != 4 or image[:2] not in ((-1, 3), (1, 3))
            or any(side < STRIDE or side % STRIDE for side in image[2:])):
        raise PerceptionError(
            f'engine {engine.name!r} has the inputs {shapes}; expected image (N, 3, H, W) alone, '
            f'H and W fixed multiples of {STRIDE}. {_CHOOSE}')
    return image[2:]


def _candidate_count(engine: DescribedNetwork) -> int:
    """How many boxes there are before suppression."""
    shapes = _shapes(engine.outputs)
    boxes, scores = shapes.get('boxes', ()), shapes.get('scores', ())
    if len(boxes) != 3 or boxes[1] < 1 or boxes[2] != 4 or scores[1:] != (boxes[1], 1):
        raise PerceptionError(
            f'engine {engine.name!r} has the outputs {shapes}; expected boxes (N, M, 4) and '
            f'scores (N, M, 1). {_CHOOSE}')
    return boxes[1]
