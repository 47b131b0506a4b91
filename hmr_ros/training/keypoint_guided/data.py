# SPDX-License-Identifier: Apache-2.0
"""Synthetic people as an endless torch dataset, composed by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
import itertools

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hmr_ros.training.keypoint_guided.config import StageConfig
from hmr_ros.training.synthetic import CutoutStore, Recipe, SyntheticPeople

#: what the losses read; the rest of a sample stays behind.
LABELS = ('uvd', 'uvd_weight', 'visible', 'phi', 'betas', 'camera_scale', 'rotmats', 'camera',
          'crop_centre', 'crop_side')


class SyntheticBatches(IterableDataset):
    """
    Batches without end: `image` (N, 3, S, S) uint8 RGB and LABELS as float32.

    Batch i depends on the seed and on i only, whatever the number of workers and wherever the
    training was resumed. `first` is the i to begin with.
    """

    def __init__(self, config: StageConfig, first: int = 0) -> None:
        self.config, self.first = config, first
        self.store = CutoutStore.join([CutoutStore.load(path) for path in config.stores])

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Compose every n-th batch, where n is the number of workers, which take turns."""
        config, worker = self.config, get_worker_info()
        people = SyntheticPeople(
            self.store, config.size, config.seed, Recipe(**config.recipe), config.photos)
        turn, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for index in itertools.count(self.first + turn, workers):
            yield to_tensors(people.batch(people.rng(index), config.batch))


def to_tensors(samples: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Keep what training needs and put the channels first."""
    tensors = {name: torch.from_numpy(samples[name]) for name in LABELS}
    image = np.ascontiguousarray(samples['image'].transpose(0, 3, 1, 2))
    return {'image': torch.from_numpy(image), **tensors}


def training_loader(config: StageConfig, workers: int, first: int = 0) -> DataLoader:
    """Return the loader from batch `first` on; `workers` processes make batches ahead of time."""
    return DataLoader(
        SyntheticBatches(config, first), batch_size=None, num_workers=workers,
        prefetch_factor=8 if workers else None)
