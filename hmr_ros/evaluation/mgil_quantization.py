# SPDX-License-Identifier: Apache-2.0
"""Synthetic people as pose networks of mgil see them, for `hmr quantize`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hmr_ros.evaluation import held_out
from hmr_ros.evaluation.mgil import seen_from_afar, SIZES
from hmr_ros.evaluation.mgil_contender import batch_of, Contender, contender, look_once
from hmr_ros.evaluation.quantization import Original
from hmr_ros.perception import simcc
from hmr_ros.training.mgil.config import WIDE
from hmr_ros.training.mgil.pictures import compose, Pictures
from hmr_ros.training.sensitivity import Measure, Run
from hmr_ros.training.synthetic import CutoutStore, Recipe, SyntheticPeople

_BATCH = 16


def missed(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """
    Percentage `(N,)` of keypoints that are more than a pixel of the crop from their place.

    found, true (N, K, 2) crop pixels; true is NaN where it is not known. Who has none misses none.
    """
    known = np.isfinite(true).all(axis=-1)
    wrong = known & (np.linalg.norm(found - np.where(known[..., None], true, 0), axis=-1) > 1)
    return 100 * wrong.sum(axis=1) / np.maximum(known.sum(axis=1), 1)


class PosePeople:
    """
    Crops of a pose network, person after person from another of the distances of SIZES.

    `true` (N, 17, 2) are the labels in crop pixels, NaN where there is none. The gates of the block
    stay in float (sheet, section 6).
    """

    style, float_parts = simcc.CROPS, ('mgaf',)
    #: check 12 of the sheet.
    measure = Measure('missed_at_1px', 'points', 1.5, missed)

    def __init__(self, one: Contender, pictures: Pictures) -> None:
        self._one, self._batches, true = one, [], []
        rows = []
        for i, image in enumerate(pictures.images):
            small, native, crop = seen_from_afar(
                image, SIZES[i % len(SIZES)] / SIZES[-1], one.size)
            rows.append((small, crop))
            points = crop.to_crop(pictures.points[i] @ native[:, :2].T + native[:, 2])
            true.append(np.where(pictures.visibility[i][:, None] > 0, points, np.nan))
        for first in range(0, len(rows), _BATCH):
            self._batches.append({'image': batch_of(*zip(*rows[first:first + _BATCH]), one)})
        self.true = np.stack(true)

    @classmethod
    def of(cls, original: Original, store: CutoutStore, seed: int, recipe: Recipe,
           which: np.ndarray) -> PosePeople:
        """Put the people `which` of a store before backgrounds; see `quantization.People`."""
        people = SyntheticPeople(
            store, round(WIDE * SIZES[-1]), seed, recipe, backgrounds=held_out.BACKGROUNDS,
            margin=WIDE)
        pictures = compose(people, ((int(i), people.rng(int(i))) for i in which), original.body)
        return cls(contender(str(original.path), simcc.COCO_NAMES), pictures)

    @staticmethod
    def picture_inputs(batch: np.ndarray, boxes: np.ndarray) -> Mapping[str, np.ndarray]:
        """See `quantization.People`."""
        return {'image': batch}

    def feeds(self) -> list[Mapping[str, np.ndarray]]:
        """Return the crops, in batches."""
        return self._batches

    def points(self, run: Run) -> np.ndarray:
        """Return the keypoints `(N, 17, 2)` in crop pixels that a network finds."""
        one = replace(self._one, run=run)
        return np.concatenate([
            simcc.decode(look_once(one, feed['image']), one.split_ratio, one.score_mode)[0]
            for feed in self._batches])

    def summary(self, run: Run) -> dict[str, float]:
        """Return the share of labelled keypoints found within a pixel, and their mean error."""
        found = self.points(run)
        errors = np.linalg.norm(found - self.true, axis=-1)
        return {'pck_1px_percent': float(100 * np.mean(errors[np.isfinite(errors)] <= 1)),
                'mean_error_px': float(np.nanmean(errors))}
