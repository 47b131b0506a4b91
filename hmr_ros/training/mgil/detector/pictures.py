# SPDX-License-Identifier: Apache-2.0
"""Scenes composed once, of which every training sample is a new window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hmr_ros.training.kept import kept_or_made
from hmr_ros.training.mgil.detector.config import DetectorConfig
from hmr_ros.training.mgil.detector.scenes import Scene, SceneComposer
from hmr_ros.training.synthetic import CutoutStore


@dataclass(frozen=True)
class Scenes:
    """
    N square scenes and the people in them.

    images   (N, S, S, 3) uint8 RGB
    boxes    (B, 4)       float32 pixels x0, y0, x1, y1, those of all scenes one after the other
    ignored  (B,)         bool, see `scenes.Scene`
    starts   (N + 1,)     int64, first box of each scene
    """

    images: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def scene(self, index: int) -> Scene:
        """Return one scene, views."""
        rows = slice(self.starts[index], self.starts[index + 1])
        return Scene(self.images[index], self.boxes[rows], self.ignored[rows])


def gather(scenes: Iterable[Scene], count: int) -> Scenes:
    """Put the first `count` scenes of equal size together."""
    images, boxes, ignored = None, [], []
    for i, scene in zip(range(count), scenes):
        # Scenes are many and large: they are written where they stay.
        images = np.empty((count, *scene.image.shape), np.uint8) if images is None else images
        images[i] = scene.image
        boxes.append(scene.boxes)
        ignored.append(scene.ignored)
    starts = np.concatenate([[0], np.cumsum([len(rows) for rows in boxes])]).astype(np.int64)
    return Scenes(images, np.concatenate(boxes), np.concatenate(ignored), starts)


def training_scenes(config: DetectorConfig) -> Scenes:
    """
    Compose the scenes of a configuration, or read them from its file `keep`.

    Scene i depends on the seed and on i only. Raises TrainingError when the file is of others.
    """
    return kept_or_made(config.keep, Scenes, _origin(config), lambda: _composed(config))


def _composed(config: DetectorConfig) -> Scenes:
    store = CutoutStore.join([CutoutStore.load(path) for path in config.stores])
    composer = SceneComposer(
        store, (config.scene_size, config.scene_size), config.seed, config.smallest,
        config.largest, config.backgrounds, config.photos)
    return gather(map(composer.scene, range(config.scenes)), config.scenes)


def _origin(config: DetectorConfig) -> dict[str, Any]:
    """What the scenes of a configuration depend on."""
    names = ('stores', 'photos', 'backgrounds', 'scenes', 'scene_size', 'smallest', 'largest',
             'seed')
    return {name: getattr(config, name) for name in names}
