# SPDX-License-Identifier: Apache-2.0
"""Found boxes and labelled ones: who is who, precision and recall, as COCO counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hmr_ros.perception.detection import overlaps

#: intersection over union from which a found box is the labelled person.
OVERLAP = 0.5
HIT, MISTAKE, NEITHER = 1, 0, -1
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Truth:
    """
    Who is in a picture; boxes are x0, y0, x1, y1 in pixels.

    people   (N, 4) who is to be found
    ignored  (M, 4) where finding somebody is neither right nor wrong
    """

    people: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class Found:
    """Boxes (D, 4), x0, y0, x1, y1 in pixels, that were found in a picture, and scores (D,)."""

    boxes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Band:
    """Heights in pixels, from `low` on and below `high`."""

    low: float = 0.0
    high: float = float('inf')

    def holds(self, boxes: np.ndarray) -> np.ndarray:
        """Tell, bool (N,), which boxes (N, 4) are that tall."""
        tall = boxes[:, 3] - boxes[:, 1]
        return (tall >= self.low) & (tall < self.high)


@dataclass(frozen=True)
class Curve:
    """
    What is found when only scores from each found one's on count, best first.

    scores (K,), hits (K,) people found, precision (K,); `people` is how many there are.
    """

    scores: np.ndarray
    hits: np.ndarray
    precision: np.ndarray
    people: int

    @property
    def recall(self) -> np.ndarray:
        """Share (K,) of the people who are found."""
        return self.hits / max(self.people, 1)

    def average_precision(self) -> float:
        """COCO's average precision in percent; NaN where there are no people."""
        if not self.people:
            return float('nan')
        # Precision at a recall is the best that any higher recall has.
        best = np.maximum.accumulate(self.precision[::-1])[::-1]
        places = np.searchsorted(self.recall, _RECALLS, side='left')
        return float(100 * np.append(best, 0.0)[places].mean())

    def found_at(self, precision: float) -> int:
        """Most people that can be found at this precision or a better one."""
        return int(self.hits[self.precision >= precision].max(initial=0))

    def point(self, score: float) -> tuple[int, float]:
        """People found, and precision, when scores from `score` on count; 0 and 1 for nothing."""
        count = int(np.sum(self.scores >= score))
        return (int(self.hits[count - 1]), float(self.precision[count - 1])) if count else (0, 1.0)


def match(found: Found, truth: Truth, band: Band = Band()) -> np.ndarray:
    """
    Tell of each found box (D,) whether it is a HIT, a MISTAKE or NEITHER.

    One after the other, best first, each takes the person it overlaps most with who is not taken.
    People of other heights than the band's, and boxes that lie in an ignored one by half, are
    neither; so is what matches nobody and has another height.
    """
    outcome = np.where(band.holds(found.boxes), MISTAKE, NEITHER)
    close, inside = overlaps(found.boxes, truth.people), _shares_in(found.boxes, truth.ignored)
    counted, free = band.holds(truth.people), np.ones(len(truth.people), bool)
    for i in np.argsort(-found.scores, kind='stable'):
        wanted = np.where(free & counted, close[i], 0)
        others = np.concatenate([np.where(free & ~counted, close[i], 0), inside[i]])
        for overlap, result in ((wanted, HIT), (others, NEITHER)):
            if overlap.max(initial=0) >= OVERLAP:
                outcome[i] = result
                best = np.argmax(overlap)
                if best < len(free):
                    free[best] = False
                break
    return outcome


def _shares_in(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Share (D, M) of each box (D, 4) that lies in each region (M, 4)."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    return np.prod(np.maximum(high - low, 0), axis=-1) / np.maximum(areas, 1e-9)[:, None]


def curve(found: Sequence[Found], truth: Sequence[Truth], band: Band = Band()) -> Curve:
    """Draw the curve of what was found in pictures, each with its truth."""
    outcome = np.concatenate([match(*pair, band) for pair in zip(found, truth)] or [np.zeros(0)])
    scores = np.concatenate([one.scores for one in found] or [np.zeros(0)])
    order = np.argsort(-scores, kind='stable')
    order = order[outcome[order] != NEITHER]
    hits = np.cumsum(outcome[order] == HIT)
    people = sum(int(band.holds(one.people).sum()) for one in truth)
    return Curve(scores[order], hits, hits / np.arange(1, len(order) + 1), people)
