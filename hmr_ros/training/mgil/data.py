# SPDX-License-Identifier: Apache-2.0
"""Crops of few pixels as an endless torch dataset (sheet, sections 1 and 3)."""

from __future__ import annotations

from collections.abc import Iterator
import itertools

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from hmr_ros.perception.crops import MARGIN
from hmr_ros.perception.simcc import COCO_NAMES, mirrored_order
from hmr_ros.training.mgil.config import PoseConfig, WIDE
from hmr_ros.training.mgil.people import UNLABELLED
from hmr_ros.training.mgil.pictures import Pictures
from hmr_ros.training.turns import turn_of_worker

_MIRRORED = mirrored_order(COCO_NAMES)
#: of SimCC's program: keypoints of the upper half, chance of them, size of a crop around either.
_UPPER, _UPPER_SHARE, _HALF_MARGIN = 11, 0.69, 1.5
_MOST_FOR_HALF = 8
_TURNED, _FLIPPED = 0.6, 0.5


class PoseCrops(IterableDataset):
    """
    Batches without end; batch i depends on the seed and on i only, and `first` is the i to begin
    with.

    images (N, 3, S, S) uint8 RGB, points (N, 17, 2) float32 crop pixels, labelled (N, 17) float32,
    0 where a keypoint does not count.
    """

    def __init__(self, config: PoseConfig, pictures: Pictures, first: int = 0) -> None:
        self.config, self.pictures, self.first = config, pictures, first

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Cut every n-th batch, where n is the number of workers."""
        turn, workers = turn_of_worker()
        for index in itertools.count(self.first + turn, workers):
            rng = np.random.default_rng([self.config.seed, 19, index])
            rows = [self._crop(int(i), rng)
                    for i in rng.integers(len(self.pictures), size=self.config.batch)]
            yield {name: torch.from_numpy(np.stack(column)) for name, column in zip(
                ('images', 'points', 'labelled'), zip(*rows))}

    def _crop(
            self, index: int, rng: np.random.Generator
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        config, pictures = self.config, self.pictures
        points, known = pictures.points[index], pictures.visibility[index] != UNLABELLED
        share = np.exp(rng.uniform(np.log(config.smallest / config.largest), 0))
        image, native = from_afar(pictures.images[index], share)
        matrix, mirrored = jitter(config, points, known, rng)
        # From the small picture over the large one to the crop.
        crop = cv2.warpAffine(
            image, compose_maps(matrix, cv2.invertAffineTransform(native)),
            (config.size, config.size), flags=cv2.INTER_LINEAR)
        points, known = points @ matrix[:, :2].T + matrix[:, 2], known.astype(np.float32)
        if mirrored:
            points, known = points[_MIRRORED], known[_MIRRORED]
        return crop.transpose(2, 0, 1), points.astype(np.float32), known


def from_afar(image: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """
    Picture `(S, S, 3)` from farther away, so that it has `share` of its pixels per side, at most 1.

    Also returns the map `(2, 3)` of its pixels to those of the smaller one. Sensors average.
    """
    size = max(2, round(share * len(image)))
    scale = size / len(image)
    if size < len(image):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    shift = 0.5 * scale - 0.5
    return image, np.float64([[scale, 0, shift], [0, scale, shift]])


def compose_maps(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Affine map `(2, 3)` that does what `first` does and then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2]
                            + second[:, 2]])


def jitter(
        config: PoseConfig, points: np.ndarray, known: np.ndarray,
        rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """
    Draw a crop: map `(2, 3)` of picture pixels to crop pixels, and whether it mirrors.

    points (17, 2) in the picture, known (17,) bool
    """
    centre, side = np.full(2, config.side / 2), MARGIN * config.side / WIDE
    if known.sum() > _MOST_FOR_HALF and rng.random() < config.half_body:
        centre, side = half_body(points, known, rng) or (centre, side)
    side *= np.clip(rng.normal(1, config.zoom), 1 - config.zoom, 1 + config.zoom)
    most = np.radians(2 * config.turn_deg)
    angle = (rng.random() < _TURNED) * np.clip(rng.normal(0, most / 2), -most, most)
    mirrored = bool(rng.random() < _FLIPPED)
    turn = np.float64([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([-1.0 if mirrored else 1.0, 1.0]) * (config.size / side)
    return np.column_stack([linear, config.size / 2 - linear @ centre]), mirrored


def half_body(
        points: np.ndarray, known: np.ndarray,
        rng: np.random.Generator) -> tuple[np.ndarray, float] | None:
    """Centre `(2,)` and side of a square around the upper or lower keypoints, None for too few."""
    upper, lower = (points[rows][known[rows]]
                    for rows in (slice(None, _UPPER), slice(_UPPER, None)))
    chosen = upper if rng.random() < _UPPER_SHARE and len(upper) > 2 else lower
    chosen = chosen if len(chosen) > 2 else upper
    side = float(np.ptp(chosen, axis=0).max()) if len(chosen) > 1 else 0.0
    # Points that coincide, seen from above or far away, are no body to look at.
    return (chosen.mean(axis=0), _HALF_MARGIN * side) if side >= 2 else None


def training_loader(
        config: PoseConfig, pictures: Pictures, workers: int, first: int = 0) -> DataLoader:
    """Return the loader from batch `first` on; `workers` processes make batches ahead of time."""
    return DataLoader(PoseCrops(config, pictures, first), batch_size=None, num_workers=workers,
                      prefetch_factor=4 if workers else None)
