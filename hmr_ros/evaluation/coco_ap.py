# SPDX-License-Identifier: Apache-2.0
"""
COCO's measure of keypoints: average precision and recall over pictures (mgil sheet, section 4).

As COCO's own program has it, with crowds and people without keypoints, whom nobody need find but
anybody may.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hmr_ros.evaluation.oks import COCO_SIGMAS, oks, RECALLS, THRESHOLDS

#: areas in square pixels between which people count, by name.
AREAS = {'all': (0.0, 1e10), 'medium': (32.0 ** 2, 96.0 ** 2), 'large': (96.0 ** 2, 1e10)}
#: most people of a picture.
MOST_PEOPLE = 20
#: of two people whose similarity is higher, one is a copy of the other.
COPY_FROM = 0.9


@dataclass(frozen=True, eq=False)
class Labelled:
    """
    One annotated person.

    keypoints (17, 3) pixels and visibility 0, 1, 2; box (4,) x0, y0, x1, y1; area in square
    pixels; crowd: several people as one
    """

    keypoints: np.ndarray
    box: np.ndarray
    area: float
    crowd: bool = False

    @property
    def need_not_be_found(self) -> bool:
        """Whether finding this one neither helps nor harms."""
        return self.crowd or not np.any(self.keypoints[:, 2] > 0)


@dataclass(frozen=True, eq=False)
class Found:
    """
    One person that was found: keypoints (17, 2) in pixels, score, and the area of the box in
    square pixels, which says how far apart two copies of one person may be.
    """

    keypoints: np.ndarray
    score: float
    box_area: float = 0.0

    @property
    def extent(self) -> float:
        """Area of the box around the keypoints, in square pixels."""
        return float(np.prod(np.ptp(self.keypoints, axis=0)))


@dataclass(frozen=True)
class _Matches:
    """Of one picture: scores (D,); whether each is a match, and does not count (T, D); people."""

    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    people: int


def without_copies(found: Sequence[Found], from_similarity: float = COPY_FROM) -> list[Found]:
    """Leave out who is too similar to somebody of a higher score (OKS-NMS, sheet section 4)."""
    rest = sorted(found, key=lambda one: -one.score)
    kept = []
    while rest:
        best = rest.pop(0)
        kept.append(best)
        similarity = _similarity_to(best, rest)
        rest = [one for one, value in zip(rest, similarity) if value <= from_similarity]
    return kept


def _similarity_to(best: Found, others: Sequence[Found]) -> np.ndarray:
    if not others:
        return np.zeros(0)
    points = np.stack([one.keypoints for one in others])
    area = np.array([0.5 * (best.box_area + one.box_area) for one in others])
    return oks(points, np.broadcast_to(best.keypoints, points.shape), area,
               np.ones(points.shape[:2], bool), COCO_SIGMAS)


def keypoint_scores(
        truth: Mapping[int, Sequence[Labelled]],
        found: Mapping[int, Sequence[Found]]) -> dict[str, float]:
    """
    Average precision and recall in percent, NaN where nobody counts.

    truth  by picture; pictures that are not in it do not count
    found  by picture

    ap, ap50, ap75, ap_medium, ap_large, ar, ar50, ar75, ar_medium, ar_large
    """
    by_area = {name: _accumulated(
        _matches(labels, found.get(picture, ()), limits) for picture, labels in truth.items())
        for name, limits in AREAS.items()}
    report = {}
    for measure, which in (('ap', 0), ('ar', 1)):
        each = by_area['all'][which]
        report.update({
            measure: each.mean(), f'{measure}50': each[0], f'{measure}75': each[5],
            **{f'{measure}_{name}': by_area[name][which].mean() for name in AREAS
               if name != 'all'}})
    return {name: float(100 * value) for name, value in report.items()}


def _matches(
        labels: Sequence[Labelled], found: Sequence[Found],
        limits: tuple[float, float]) -> _Matches:
    """Match those found, the surest first, with the labelled person they are most similar to."""
    low, high = limits
    # Who need not be found comes last, so that nobody who must be is passed over.
    labels = sorted(labels, key=lambda one: _is_ignored(one, low, high))
    optional = np.array([_is_ignored(one, low, high) for one in labels], bool)
    found = sorted(found, key=lambda one: -one.score)[:MOST_PEOPLE]
    similarity = np.stack([_similarity(one, found) for one in labels], axis=1) if labels else (
        np.zeros((len(found), 0)))
    partners = np.stack([
        _partners(similarity, optional, [one.crowd for one in labels], threshold)
        for threshold in THRESHOLDS])
    matched = partners >= 0
    outside = np.array([not low <= one.extent <= high for one in found], bool)
    ignored = np.where(matched, optional[partners] if labels else False, outside)
    return _Matches(np.array([one.score for one in found]), matched, ignored,
                    int(np.sum(~optional)))


def _is_ignored(one: Labelled, low: float, high: float) -> bool:
    return one.need_not_be_found or not low <= one.area <= high


def _similarity(one: Labelled, found: Sequence[Found]) -> np.ndarray:
    """Similarity `(D,)` of those found to a labelled person."""
    points = np.stack([other.keypoints for other in found]) if found else np.zeros((0, 17, 2))
    count, known = len(points), one.keypoints[:, 2] > 0
    target = np.broadcast_to(one.keypoints[:, :2], points.shape)
    if not known.any():
        # Without keypoints: how far from a box of twice the size, all keypoints alike.
        size = one.box[2:] - one.box[:2]
        target = np.clip(points, one.box[:2] - size, one.box[2:] + size)
        known = np.ones(len(known), bool)
    return oks(points, target, np.full(count, one.area), np.tile(known, (count, 1)), COCO_SIGMAS)


def _partners(
        similarity: np.ndarray, optional: np.ndarray, crowd: Sequence[bool],
        threshold: float) -> np.ndarray:
    """Partner of each of those found `(D,)`, -1 for none."""
    taken, partners = np.zeros(len(optional), bool), np.full(len(similarity), -1)
    for row, values in enumerate(similarity):
        free = (~taken | np.asarray(crowd, bool)) & (values >= min(threshold, 1 - 1e-10))
        # Somebody who must be found goes before all who need not be.
        for group in (free & ~optional, free & optional):
            if group.any():
                # Of equals the last one, as COCO's program has it.
                best = np.flatnonzero(group & (values == values[group].max()))[-1]
                partners[row], taken[best] = best, True
                break
    return partners


def _accumulated(pictures: Iterable[_Matches]) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and highest recall `(T,)` of all pictures together."""
    pictures = list(pictures)
    people = sum(one.people for one in pictures)
    nothing = np.full(len(THRESHOLDS), np.nan)
    if not people:
        return nothing, nothing
    order = np.argsort(-np.concatenate([one.scores for one in pictures]), kind='stable')
    matched, ignored = (
        np.concatenate([getattr(one, name) for one in pictures], axis=1)[:, order]
        for name in ('matched', 'ignored'))
    hits = np.cumsum(matched & ~ignored, axis=1)
    wrong = np.cumsum(~matched & ~ignored, axis=1)
    rows = [_average(hit, miss, people) for hit, miss in zip(hits, wrong)]
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def _average(hits: np.ndarray, wrong: np.ndarray, people: int) -> tuple[float, float]:
    if not len(hits):
        return 0.0, 0.0
    recall, precision = hits / people, hits / np.maximum(hits + wrong, 1)
    # Precision at a recall is the best that any higher recall has.
    precision = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(precision[np.searchsorted(recall, RECALLS, side='left')].mean()), recall[-1]
