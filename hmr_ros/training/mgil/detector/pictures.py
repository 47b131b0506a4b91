# SPDX-License-Identifier: Apache-2.0
"""Scenes composed once, of which every training sample is a new window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
import json
from pathlib import Path

import numpy as np

from hmr_ros.training.errors import TrainingError
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
    kept = Path(config.keep) if config.keep else None
    if kept is not None and kept.is_file():
        return _read(kept, config)
    store = CutoutStore.join([CutoutStore.load(path) for path in config.stores])
    composer = SceneComposer(
        store, (config.scene_size, config.scene_size), config.seed, config.smallest,
        config.largest, config.backgrounds, config.photos)
    scenes = gather(map(composer.scene, range(config.scenes)), config.scenes)
    if kept is not None:
        _write(scenes, kept, config)
    return scenes


def _origin(config: DetectorConfig) -> str:
    """What the scenes of a configuration depend on."""
    names = ('stores', 'photos', 'backgrounds', 'scenes', 'scene_size', 'smallest', 'largest',
             'seed')
    return json.dumps({name: getattr(config, name) for name in names})


def _write(scenes: Scenes, path: Path, config: DetectorConfig) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + '.part')
    with unfinished.open('wb') as file:
        np.savez(file, origin=_origin(config), **{
            f.name: getattr(scenes, f.name) for f in fields(Scenes)})
    unfinished.replace(path)


def _read(path: Path, config: DetectorConfig) -> Scenes:
    try:
        with np.load(path) as file:
            origin = str(file['origin'])
            arrays = {f.name: file[f.name] for f in fields(Scenes)}
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f'scenes {path} cannot be read: {error}') from error
    if origin != _origin(config):
        raise TrainingError(
            f'scenes {path} were made from {origin}, but this configuration says '
            f'{_origin(config)}; name another file as keep')
    return Scenes(**arrays)
