# SPDX-License-Identifier: Apache-2.0
"""Synthetic people at several resolutions as an endless torch dataset (sheet 3.4, 3.5)."""

from __future__ import annotations

from collections.abc import Iterator
import itertools

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from hmr_ros.perception.rsc_net import CROP_FOCAL, IMAGE_SIZE, MARGIN
from hmr_ros.training.rsc_net.config import RscConfig
from hmr_ros.training.rsc_net.ranges import versions
from hmr_ros.training.synthetic import CutoutStore, Recipe, SyntheticPeople
from hmr_ros.training.turns import turn_of_worker

JOINTS = 24
_FOCAL = 2 * CROP_FOCAL / IMAGE_SIZE


class Resolutions(IterableDataset):
    """
    Batches without end, as the schedule sets their size and number of resolutions; batch i depends
    on the seed and on i only, and `first` is the i to begin with.

    images (R, N, 3, S, S) uint8 RGB, highest resolution first, sample (N,) int64 and, float32,
    rotmats (N, 24, 3, 3), betas (N, 10), joints2d (N, 24, 2) in -1 to 1, confidence (N, 24),
    joints3d (N, 24, 3) metres, transl (N, 3) before the crop camera.
    """

    def __init__(self, config: RscConfig, first: int = 0) -> None:
        self.config, self.first = config, first
        self.store = CutoutStore.join([CutoutStore.load(path) for path in config.stores])

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Compose every n-th batch, where n is the number of workers."""
        config, schedule = self.config, self.config.schedule
        people = SyntheticPeople(
            self.store, config.crop_size, config.seed, Recipe(**dict(config.recipe)), config.photos,
            margin=MARGIN)
        turn, workers = turn_of_worker()
        for index in itertools.count(self.first + turn, workers):
            rng, stage = np.random.default_rng([config.seed, 17, index]), schedule.stage(index)
            rows = min(stage.rows, config.kind.resolutions)
            yield _stacked([draw(people, rows, rng) for _ in range(stage.batch)])


def draw(
        people: SyntheticPeople, rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw anybody, at `rows` resolutions."""
    sample = people.sample(int(rng.integers(len(people))), rng)
    half = 0.5 * people.size
    joints2d = (sample['keypoints2d'][:JOINTS] - half) / half
    joints3d = sample['joints3d'][:JOINTS] - sample['transl']
    inside = np.all(np.abs(joints2d) <= 1, axis=-1).astype(np.float32)
    return {
        'images': versions(sample['image'], rows, rng).transpose(0, 3, 1, 2),
        'sample': sample['index'], 'rotmats': sample['rotmats'], 'betas': sample['betas'],
        'joints2d': joints2d.astype(np.float32), 'confidence': inside, 'joints3d': joints3d,
        'transl': fitted_translation(joints3d, joints2d)}


def fitted_translation(joints3d: np.ndarray, joints2d: np.ndarray) -> np.ndarray:
    """
    Place `(3,)` float32 of a body before the crop camera: linear least squares (SPIN).

    joints3d (K, 3) of the body at the origin, joints2d (K, 2) in -1 to 1.
    """
    zero, focal = np.zeros(len(joints3d)), np.full(len(joints3d), _FOCAL)
    u, v = joints2d.T
    left = np.concatenate([np.stack([focal, zero, -u], 1), np.stack([zero, focal, -v], 1)])
    x, y, z = joints3d.T
    right = np.concatenate([u * z - focal * x, v * z - focal * y])
    return np.linalg.lstsq(left, right, rcond=None)[0].astype(np.float32)


def _stacked(samples: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    batch = {name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
             for name in samples[0]}
    return {**batch, 'images': batch['images'].transpose(0, 1).contiguous()}


def training_loader(config: RscConfig, workers: int, first: int = 0) -> DataLoader:
    """Return the loader from batch `first` on; `workers` processes make batches ahead of time."""
    return DataLoader(Resolutions(config, first), batch_size=None, num_workers=workers,
                      prefetch_factor=4 if workers else None)
