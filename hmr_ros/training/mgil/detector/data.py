# SPDX-License-Identifier: Apache-2.0
"""Windows of scenes as an endless torch dataset (sheet, section 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
import itertools

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from hmr_ros.training.mgil.detector.config import DetectorConfig
from hmr_ros.training.mgil.detector.pictures import Scenes
from hmr_ros.training.mgil.detector.scenes import Scene
from hmr_ros.training.synthetic import augment, Recipe
from hmr_ros.training.synthetic.painter import degrade
from hmr_ros.training.turns import turn_of_worker

#: what cameras do to the pictures of a detector; other entries of a Recipe do not apply.
SENSOR = Recipe(blur=0.25, coarsen=0.25, compress=0.35, grey=0.08, noise=14.0, coarsest=72)
#: grey of what lies beyond the picture, as live pictures are padded.
PADDING = 114
_AROUND_SOMEBODY, _SHARPEN, _BLUR_PX = 0.65, 0.2, 1.5
#: of a box, the share that a window must hold for its person to count, and the least height.
_HELD, _LEAST_PX = 0.3, 8.0


class SceneWindows(IterableDataset):
    """
    Batches without end; batch i depends on the seed and on i only, and `first` is the i to begin
    with.

    images (N, 3, S, S) uint8 RGB; boxes (B, 4) float32 pixels x0, y0, x1, y1 and ignored (B,) bool
    of all windows, rows (B,) int64 the window of each.
    """

    def __init__(self, config: DetectorConfig, scenes: Scenes, first: int = 0) -> None:
        self.config, self.scenes, self.first = config, scenes, first
        self._recipe = replace(SENSOR, **dict(config.recipe))
        self._grain = augment.Grain(np.random.default_rng([config.seed, 45]))

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Cut every n-th batch, where n is the number of workers."""
        turn, workers = turn_of_worker()
        for index in itertools.count(self.first + turn, workers):
            rng = np.random.default_rng([self.config.seed, 47, index])
            yield collate([self._window(self.scenes.scene(int(i)), rng) for i in
                           rng.integers(len(self.scenes), size=self.config.batch)])

    def _window(self, scene: Scene, rng: np.random.Generator) -> Scene:
        zoom = self.config.zoom ** rng.uniform(-1, 1)
        cut = window(scene, *self._place(scene, zoom, rng), self.config.size)
        cut = replace(cut, image=sensed(rng, cut.image, self._recipe, self._grain))
        return mirrored(cut) if rng.random() < 0.5 else cut

    def _place(
            self, scene: Scene, zoom: float, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Corner `(2,)` int and side of a window in pixels of the scene."""
        side, whole = round(self.config.size / zoom), len(scene.image)
        if len(scene.boxes) and rng.random() < _AROUND_SOMEBODY:
            box = scene.boxes[rng.integers(len(scene.boxes))]
            corner = 0.5 * (box[:2] + box[2:]) - side * rng.uniform(0.05, 0.95, 2)
        else:
            corner = rng.uniform(0, 1, 2) * (whole - side)
        # A tenth of the window may lie beyond the scene.
        low, high = sorted((-0.1 * side, whole - 0.9 * side))
        return np.round(np.clip(corner, low, high)).astype(int), side


def sensed(
        rng: np.random.Generator, image: np.ndarray, recipe: Recipe,
        grain: augment.Grain) -> np.ndarray:
    """Return what a camera makes of an image `(H, W, 3)` uint8, which may change too."""
    image = degrade(rng, image, recipe, grain, _BLUR_PX)
    return augment.sharpen(rng, image) if rng.random() < _SHARPEN else image


def window(scene: Scene, corner: np.ndarray, side: int, size: int) -> Scene:
    """
    Cut a square of `side` pixels at `corner` (2,) int out of a scene, scaled to `size` pixels.

    What lies beyond the scene is grey; people whom the window hardly holds are ignored.
    """
    whole = len(scene.image)
    low, high = np.clip(corner, 0, whole), np.clip(corner + side, 0, whole)
    before, after = low - corner, corner + side - high
    part = cv2.copyMakeBorder(
        scene.image[low[1]:high[1], low[0]:high[0]], int(before[1]), int(after[1]),
        int(before[0]), int(after[0]), cv2.BORDER_CONSTANT, value=(PADDING,) * 3)
    scale = size / side
    image = cv2.resize(
        part, (size, size), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    limits = (np.concatenate([low, high]) - np.tile(corner, 2)) * scale
    boxes = (scene.boxes - np.tile(corner, 2)) * scale
    held = np.concatenate([np.clip(boxes[:, :2], limits[:2], limits[2:]),
                           np.clip(boxes[:, 2:], limits[:2], limits[2:])], axis=1)
    share = _areas(held) / np.maximum(_areas(boxes), 1e-6)
    ignored = scene.ignored | (share < _HELD) | (held[:, 3] - held[:, 1] < _LEAST_PX)
    inside = share > 0
    return Scene(image, held[inside].astype(np.float32), ignored[inside])


def mirrored(scene: Scene) -> Scene:
    """Return a scene as a mirror shows it."""
    width = scene.image.shape[1]
    boxes = scene.boxes[:, [2, 1, 0, 3]] * np.float32([-1, 1, -1, 1]) + np.float32(
        [width, 0, width, 0])
    return Scene(np.ascontiguousarray(scene.image[:, ::-1]), boxes, scene.ignored)


def collate(cuts: list[Scene]) -> dict[str, torch.Tensor]:
    """Put windows of equal size into one batch, see SceneWindows."""
    arrays = {
        'images': np.stack([cut.image.transpose(2, 0, 1) for cut in cuts]),
        'boxes': np.concatenate([cut.boxes for cut in cuts]),
        'ignored': np.concatenate([cut.ignored for cut in cuts]),
        'rows': np.repeat(np.arange(len(cuts)), [len(cut.boxes) for cut in cuts])}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def training_loader(
        config: DetectorConfig, scenes: Scenes, workers: int, first: int = 0) -> DataLoader:
    """Return the loader from batch `first` on; `workers` processes make batches ahead of time."""
    return DataLoader(SceneWindows(config, scenes, first), batch_size=None, num_workers=workers,
                      prefetch_factor=4 if workers else None)
