# SPDX-License-Identifier: Apache-2.0
"""Places without people: photographs and drawn ones, and ground, walls and ways put together."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hmr_ros.training.synthetic.augment import colour_table
from hmr_ros.training.synthetic.backgrounds import background_pool

#: sides of the pictures that places are cut from, in pixels.
_SPAN = 560
_PHOTO, _GROUND, _REGIONS = 0.75, 0.6, 4
#: least share of a picture in a place. With less, places would be less sharp than the people in
#: them, and that is what a detector would learn.
_CLOSEST = 0.55


class Backdrops:
    """
    Draws places from pools.

    drawn   backgrounds drawn into the pool
    photos  folder of photographs, or None
    """

    def __init__(
            self, rng: np.random.Generator, drawn: int, photos: str | Path | None = None) -> None:
        self._drawn, self._photos = background_pool(rng, drawn, _SPAN, photos)

    def place(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """
        Draw a place `(height, width, 3)` uint8 RGB.

        Either one piece of a picture, or a view of ground, walls and ways, each of another one.
        """
        canvas = self.piece(rng, shape)
        if rng.random() < _GROUND:
            self._region(rng, canvas, _ground(rng, shape))
        for _ in range(rng.integers(0, _REGIONS)):
            self._region(rng, canvas, _quad(rng, shape))
        return canvas

    def piece(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Cut a random piece of a picture, mirrored and scaled: `(height, width, 3)`, a copy."""
        pool = self._photos if len(self._photos) and rng.random() < _PHOTO else self._drawn
        image = pool[rng.integers(len(pool))]
        height, width = shape
        share = np.exp(rng.uniform(np.log(_CLOSEST), 0)) * _SPAN / max(shape)
        tall, wide = max(2, int(share * height)), max(2, int(share * width))
        x, y = rng.integers(0, _SPAN - wide + 1), rng.integers(0, _SPAN - tall + 1)
        part = np.ascontiguousarray(
            image[y:y + tall, x:x + wide][:, ::int(rng.choice([-1, 1]))])
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)

    def _region(
            self, rng: np.random.Generator, canvas: np.ndarray, corners: np.ndarray) -> None:
        """Lay another picture over the polygon `corners` (K, 2), in a light of its own."""
        mask = np.zeros(canvas.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 255, cv2.LINE_AA)
        x, y, wide, tall = cv2.boundingRect(mask)
        if not wide or not tall:
            return
        table = np.clip(colour_table(rng), 0, 255).astype(np.uint8)
        cover = cv2.LUT(self.piece(rng, (tall, wide)), table[None])
        where = mask[y:y + tall, x:x + wide, None] / np.float32(255)
        under = canvas[y:y + tall, x:x + wide]
        under[:] = under * (1 - where) + cover * where


def _ground(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Everything below a line across the picture."""
    height, width = shape
    left, right = rng.uniform(-0.3, 0.8) * height + rng.normal(0, 0.12, 2) * height
    return np.float64([[-1, left], [width, right], [width, height], [-1, height]])


def _quad(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A way, a lawn, a wall or a shadowed front: four corners, in any order of size."""
    height, width = shape
    if rng.random() < 0.5:
        centre, way = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0, np.pi)
        along = 2.0 * max(shape) * np.float64([np.cos(way), np.sin(way)])
        across = np.float64([-along[1], along[0]]) * np.exp(rng.uniform(np.log(.004), np.log(.1)))
        flare = rng.uniform(0.3, 1.5)
        return np.stack([centre + along + flare * across, centre + along - flare * across,
                         centre - along - across, centre - along + across])
    x, y = rng.uniform(-0.2, 1, 2) * (width, height)
    wide, tall = np.exp(rng.uniform(np.log(0.05), np.log(0.7), 2)) * (width, height)
    lean = rng.normal(0, 0.1, (4, 2)) * (wide, tall)
    return np.float64([[x, y], [x + wide, y], [x + wide, y + tall], [x, y + tall]]) + lean
