# SPDX-License-Identifier: Apache-2.0
"""
People put before backgrounds once, to be cropped again and again.

Putting a person into a picture takes a hundred times as long as cutting a crop of 32 pixels out of
it, and what a short training needs is many steps, not many different pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hmr_ros.body.model import BodyModel
from hmr_ros.training.kept import kept_or_made
from hmr_ros.training.mgil.config import PoseConfig, WIDE
from hmr_ros.training.mgil.people import CocoLabels
from hmr_ros.training.synthetic import CutoutStore, Recipe, SyntheticPeople

#: of the crop, not of the picture.
_NOT_YET = {'turn': 0.0, 'zoom': 0.0, 'coarsen': 0.0}


@dataclass(frozen=True)
class Pictures:
    """
    N square pictures around one person each; the box's longer side is side / WIDE pixels.

    images      (N, S, S, 3) uint8 RGB
    points      (N, 17, 2)   float32 pixels, COCO's order
    visibility  (N, 17)      uint8, COCO's 0, 1, 2
    area        (N,)         float32, pixels of the person that are seen
    """

    images: np.ndarray
    points: np.ndarray
    visibility: np.ndarray
    area: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def compose(
        people: SyntheticPeople, draws: Iterable[tuple[int, np.random.Generator]],
        body: BodyModel) -> Pictures:
    """Take a picture of each person `(index, rng)`."""
    labels, columns = CocoLabels(body), ([], [], [], [])
    for index, rng in draws:
        sample = people.sample(index, rng)
        row = (sample['image'], *labels.read(sample), np.float32(sample['mask'].sum()))
        for column, value in zip(columns, row):
            column.append(value)
    return Pictures(*map(np.stack, columns))


def training_pictures(config: PoseConfig, body: BodyModel) -> Pictures:
    """
    Compose the pictures of a configuration, or read them from its file `keep`.

    Picture i depends on the seed and on i only. Raises TrainingError when the file is of others.
    """
    return kept_or_made(config.keep, Pictures, _origin(config), lambda: _composed(config, body))


def _composed(config: PoseConfig, body: BodyModel) -> Pictures:
    store = CutoutStore.join([CutoutStore.load(path) for path in config.stores])
    people = SyntheticPeople(
        store, config.side, config.seed, Recipe(**{**_NOT_YET, **dict(config.recipe)}),
        config.photos, margin=WIDE)
    return compose(
        people, (_draw(config, len(people), i) for i in range(config.pictures)), body)


def _draw(config: PoseConfig, people: int, index: int) -> tuple[int, np.random.Generator]:
    rng = np.random.default_rng([config.seed, 23, index])
    return int(rng.integers(people)), rng


def _origin(config: PoseConfig) -> dict[str, Any]:
    """What the pictures of a configuration depend on."""
    names = ('stores', 'photos', 'pictures', 'largest', 'seed', 'recipe')
    return {name: getattr(config, name) for name in names}
