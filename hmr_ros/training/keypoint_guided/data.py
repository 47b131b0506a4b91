# SPDX-License-Identifier: Apache-2.0
"""Synthetic and labelled people as an endless torch dataset, composed by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
import itertools

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from hmr_ros.body import load_body
from hmr_ros.body.model import BodyModel
from hmr_ros.evaluation.datasets import read_dataset
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.keypoint_guided.config import DatasetShare, StageConfig
from hmr_ros.training.keypoint_guided.labelled import LabelledPeople
from hmr_ros.training.keypoint_guided.pretraining import coco_labels
from hmr_ros.training.turns import turn_of_worker
from hmr_ros.training.synthetic import CutoutStore, Recipe, SyntheticPeople

#: what the losses read; the rest of a sample stays behind.
LABELS = ('uvd', 'uvd_weight', 'visible', 'phi', 'betas', 'camera_scale', 'rotmats', 'camera',
          'crop_centre', 'crop_side', 'pose_known', 'camera_known', 'coco')


class Batches(IterableDataset):
    """
    Batches without end: `image` (N, 3, S, S) uint8 RGB and LABELS as float32.

    Batch i depends on the seed and on i only, whatever the number of workers and wherever the
    training was resumed. `first` is the i to begin with. Trainer processes, and the workers of
    each, take turns.
    """

    def __init__(self, config: StageConfig, first: int = 0) -> None:
        self.config, self.first = config, first
        self.store = CutoutStore.join(
            [CutoutStore.load(path) for path in config.stores]) if config.stores else None
        body = None if config.body == 'open_body' else load_body(config.body)
        self.datasets = [_labelled(entry, config.size, body) for entry in config.datasets]

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Compose every n-th batch, where n is the number of workers of all processes."""
        config = self.config
        sources: list[SyntheticPeople | LabelledPeople] = list(self.datasets)
        shares = [entry.share for entry in config.datasets]
        if self.store is not None:
            sources.append(SyntheticPeople(
                self.store, config.size, config.seed, Recipe(**config.recipe), config.photos))
            shares.append(max(0.0, 1 - sum(shares)))
        turn, everybody = turn_of_worker()
        for index in itertools.count(self.first + turn, everybody):
            rng = np.random.default_rng([config.seed, 11, index])
            chosen = rng.choice(len(sources), size=config.batch, p=np.divide(shares, sum(shares)))
            yield to_tensors([draw_sample(sources[i], rng) for i in chosen])


def _labelled(entry: DatasetShare, size: int, body: BodyModel | None) -> LabelledPeople:
    people = [person for person in read_dataset(entry.name, entry.folder, entry.split)
              if person.frame is None]
    if not people:
        raise TrainingError(
            f'dataset {entry.name} in {entry.folder} has no people in picture files for the split '
            f'{entry.split}; videos can be evaluated on, not trained on')
    return LabelledPeople(people, size, body)


def draw_sample(
        source: SyntheticPeople | LabelledPeople,
        rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw anybody of a source; everything is known of synthetic people."""
    sample = source.sample(int(rng.integers(len(source))), rng)
    known = {'pose_known': np.float32(1), 'camera_known': np.float32(1),
             'coco': coco_labels(sample['uvd'], sample['uvd_weight'])}
    return {**known, **sample}


def to_tensors(samples: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Stack what training needs, float32, and put the channels of the image first."""
    tensors = {name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
               for name in LABELS}
    image = np.stack([sample['image'].transpose(2, 0, 1) for sample in samples])
    return {'image': torch.from_numpy(image), **tensors}


def training_loader(config: StageConfig, workers: int, first: int = 0) -> DataLoader:
    """Return the loader from batch `first` on; `workers` processes make batches ahead of time."""
    return DataLoader(
        Batches(config, first), batch_size=None, num_workers=workers,
        prefetch_factor=8 if workers else None)
