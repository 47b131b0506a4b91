# SPDX-License-Identifier: Apache-2.0
"""Synthetic people as an endless torch dataset, composed by worker processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hmr_ros.training.keypoint_guided.config import StageConfig
from hmr_ros.training.synthetic import CutoutStore, Recipe, SyntheticPeople

#: what the losses read; the rest of a sample stays behind.
LABELS = ('uvd', 'uvd_weight', 'visible', 'phi', 'betas', 'camera_scale')


class SyntheticBatches(IterableDataset):
    """
    Batches without end: `image` (N, 3, S, S) uint8 RGB and LABELS as float32.

    Each worker draws its own samples from the seed; the same seed and number of workers give the
    same batches.
    """

    def __init__(self, config: StageConfig) -> None:
        self.config = config
        self.store = CutoutStore.join([CutoutStore.load(path) for path in config.stores])

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Compose batches in this worker."""
        config, worker = self.config, get_worker_info()
        people = SyntheticPeople(
            self.store, config.size, config.seed, Recipe(**config.recipe), config.photos)
        rng = people.rng(worker.id if worker else 0)
        while True:
            yield to_tensors(people.batch(rng, config.batch))


def to_tensors(samples: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Keep what training needs and put the channels first."""
    tensors = {name: torch.from_numpy(samples[name]) for name in LABELS}
    image = np.ascontiguousarray(samples['image'].transpose(0, 3, 1, 2))
    return {'image': torch.from_numpy(image), **tensors}


def training_loader(config: StageConfig, workers: int) -> DataLoader:
    """Return the loader; batches are made by `workers` processes ahead of time."""
    return DataLoader(
        SyntheticBatches(config), batch_size=None, num_workers=workers,
        prefetch_factor=8 if workers else None)
