# SPDX-License-Identifier: Apache-2.0
"""Crowds of rendered people in places full of things, with the box of everyone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hmr_ros.training.errors import TrainingError
from hmr_ros.training.mgil.detector.backdrops import Backdrops
from hmr_ros.training.mgil.detector.clutter import lay_garment, lay_thing
from hmr_ros.training.synthetic import CutoutStore
from hmr_ros.training.synthetic.augment import colour_table
from hmr_ros.training.synthetic.layers import lay_cutout

#: metres that count as one person's height.
PERSON_M = 1.7
#: chances that nobody is there, and of one to three people; the rest of scenes are crowds.
_EMPTY, _FEW, _MOST = 0.1, 0.45, 15
_BESIDE, _THING, _GARMENT, _SHADOWS = 0.45, 0.12, 0.25, 0.5
#: people smaller than this many pixels are not drawn.
_FEWEST_PX = 7.0
#: of a person's pixels in the picture, the share that must be seen, and how many.
_SEEN, _SEEN_PX = 0.2, 20
_BLACK = np.full((256, 3), 255, np.float32)


@dataclass(frozen=True)
class Scene:
    """
    A picture and the people in it.

    image    (H, W, 3) uint8 RGB
    boxes    (B, 4)    float32 pixels x0, y0, x1, y1 of the whole person, hidden parts too, within
                       the picture
    ignored  (B,)      bool, people of whom too little is seen to be found or missed
    """

    image: np.ndarray
    boxes: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class Ground:
    """Flat ground: a person whose feet are in row y is slope (y - horizon) pixels tall."""

    horizon: float
    slope: float

    def tall(self, row: np.ndarray | float) -> np.ndarray | float:
        """Pixels that a person with feet in `row` is tall."""
        return self.slope * (row - self.horizon)


class SceneComposer:
    """
    Composes scenes of the people of a store.

    shape              height and width of scenes in pixels
    seed               another one gives other places and crowds
    smallest, largest  pixels that a person in the middle of a scene is tall
    backgrounds        places to draw
    photos             folder of photographs without people, or None

    Raises TrainingError for a store without people and for shapes and heights that make no scene,
    SyntheticError for a folder without pictures.
    """

    def __init__(
            self, store: CutoutStore, shape: tuple[int, int], seed: int, smallest: float,
            largest: float, backgrounds: int, photos: str | Path | None = None) -> None:
        if len(store) == 0 or min(shape) < 32 or not 0 < smallest <= largest:
            raise TrainingError(
                f'{len(store)} people in scenes of {shape} pixels, {smallest} to {largest} tall; '
                'expected a store with people, 32 pixels or more and heights in order')
        self.store, self.shape, self.seed = store, shape, seed
        self._heights = smallest, largest
        self._backdrops = Backdrops(np.random.default_rng([seed, 41]), backgrounds, photos)

    def scene(self, index: int) -> Scene:
        """Compose scene `index`, which depends on it and on the composer's arguments only."""
        rng = np.random.default_rng([self.seed, 43, index])
        ground = self._ground(rng)
        canvas = self._backdrops.place(rng, self.shape)
        matte = np.zeros(self.shape, np.uint8)
        feet = self._feet(rng, ground)
        self._furnish(rng, canvas, matte, ground)
        maps = [self._stand(rng, foot, tall) for foot, tall in feet]
        if rng.random() < _SHADOWS:
            self._cast(rng, canvas, maps)
        return self._people(rng, canvas, matte, feet, maps)

    def _ground(self, rng: np.random.Generator) -> Ground:
        height = self.shape[0]
        middle = np.exp(rng.uniform(*np.log(self._heights)))
        # Cameras on walls have the horizon far above the picture.
        horizon = height * (rng.uniform(-0.2, 0.45) if rng.random() < 0.4 else
                            -np.exp(rng.uniform(np.log(0.2), np.log(4))))
        return Ground(horizon, middle / (0.6 * height - horizon))

    def _feet(
            self, rng: np.random.Generator, ground: Ground) -> list[tuple[np.ndarray, float]]:
        """Where people stand and how tall they are in pixels, the farthest first."""
        height, width = self.shape
        feet: list[tuple[np.ndarray, float]] = []
        room = 1.2 * height * width
        for _ in range(_count(rng)):
            low = max(-0.05 * height, ground.horizon + _FEWEST_PX / ground.slope)
            high = height + 0.7 * ground.tall(height)
            foot = np.float64([rng.uniform(-0.05, 1.05) * width, rng.uniform(low, high)])
            if feet and rng.random() < _BESIDE:
                other, beside = feet[rng.integers(len(feet))]
                foot = other + beside * np.float64([rng.choice([-1, 1]) * rng.uniform(.15, .8),
                                                    rng.normal(0, 0.1)])
            tall = float(ground.tall(foot[1])) * rng.normal(1, 0.08)
            room -= 0.3 * tall ** 2
            if tall >= _FEWEST_PX and (room > 0 or not feet):
                feet.append((foot, tall))
        return sorted(feet, key=lambda place: place[0][1])

    def _furnish(
            self, rng: np.random.Generator, canvas: np.ndarray, matte: np.ndarray,
            ground: Ground) -> None:
        """Put things and clothes behind all people, where people would be as well."""
        for _ in range(rng.poisson(4) if rng.random() < 0.85 else 0):
            self._thing(rng, canvas, matte, ground)
        if rng.random() < _GARMENT:
            foot = rng.uniform(0, 1, 2) * self.shape[::-1]
            tall = min(max(float(ground.tall(foot[1])), 2 * _FEWEST_PX), self._heights[1])
            lay_garment(rng, canvas, matte, self.store, foot, tall)

    def _thing(
            self, rng: np.random.Generator, canvas: np.ndarray, matte: np.ndarray,
            ground: Ground) -> None:
        height, width = self.shape
        foot = np.float64([rng.uniform(0, width), rng.uniform(0.1, 1.2) * height])
        tall = min(max(float(ground.tall(foot[1])), _FEWEST_PX), self._heights[1])
        lay_thing(rng, canvas, matte, self._backdrops.piece(rng, self.shape), foot, tall)

    def _stand(
            self, rng: np.random.Generator, foot: np.ndarray,
            tall: float) -> tuple[int, np.ndarray]:
        """Choose somebody and the map `(2, 3)` of the cut-out's pixels that puts them there."""
        store, index = self.store, int(rng.integers(len(self.store)))
        metre = store.focal[index] / store.joints3d[index, 0, 2]
        angle = np.clip(rng.normal(0, 0.04), -0.15, 0.15)
        turn = np.float64([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        scale = tall / (PERSON_M * metre)
        linear = scale * turn @ np.diag([rng.choice([-1.0, 1.0]) * rng.normal(1, 0.05), 1.0])
        outline = store.outline[index] - store.frames[index, :2]
        sole = np.float64([outline[:, 0].mean(), outline[:, 1].max()])
        return index, np.concatenate([linear, (foot - linear @ sole)[:, None]], axis=1)

    def _cast(
            self, rng: np.random.Generator, canvas: np.ndarray,
            maps: list[tuple[int, np.ndarray]]) -> None:
        """Darken the ground where the sun of the scene does not reach it."""
        shade, matte = np.zeros_like(canvas), np.zeros(self.shape, np.uint8)
        lean, flat = rng.normal(0, 0.7), rng.choice([-1, 1]) * rng.uniform(0.05, 0.45)
        for index, forward in maps:
            outline = self.store.outline[index] - self.store.frames[index, :2]
            sole = forward[:, :2] @ (outline[:, 0].mean(), outline[:, 1].max()) + forward[:, 2]
            fall = np.float64([[1, lean], [0, flat]])
            thrown = np.concatenate([
                fall @ forward[:, :2], (sole + fall @ (forward[:, 2] - sole))[:, None]], axis=1)
            lay_cutout(shade, matte, self.store.image(index), thrown, _BLACK, 1)
        soft = cv2.blur(shade[..., 0], (int(rng.integers(1, 6)),) * 2)
        depth = np.uint8(rng.uniform(0.15, 0.65) * np.arange(256))
        canvas[:] = cv2.multiply(
            canvas, cv2.merge([255 - cv2.LUT(soft, depth)] * 3), scale=1 / 255)

    def _people(
            self, rng: np.random.Generator, canvas: np.ndarray, matte: np.ndarray,
            feet: list[tuple[np.ndarray, float]],
            maps: list[tuple[int, np.ndarray]]) -> Scene:
        """Lay people and what stands between them, the farthest first."""
        whole: list[tuple[int, np.ndarray]] = []
        for (foot, tall), (index, forward) in zip(feet, maps):
            mark = len(whole) + 1
            own = np.zeros_like(matte)
            lay_cutout(canvas, own, self.store.image(index), forward, colour_table(rng, 0.6),
                       mark)
            matte[own > 0] = mark
            whole.append((int(np.count_nonzero(own)), extent(own)))
            if rng.random() < _THING:
                aside = foot + tall * np.float64([rng.normal(0, 0.3), rng.uniform(0, 0.3)])
                lay_thing(rng, canvas, matte, self._backdrops.piece(rng, self.shape), aside, tall)
        seen = np.bincount(matte.ravel(), minlength=len(whole) + 1)[1:]
        rows = [i for i, (area, _) in enumerate(whole) if area]
        ignored = [seen[i] < max(_SEEN_PX, _SEEN * whole[i][0]) for i in rows]
        boxes = np.float32([whole[i][1] for i in rows]).reshape(-1, 4)
        return Scene(canvas, boxes, np.array(ignored, bool))


def _count(rng: np.random.Generator) -> int:
    draw = rng.random()
    if draw < _EMPTY:
        return 0
    return int(rng.integers(1, 4) if draw < _EMPTY + _FEW else rng.integers(4, _MOST + 1))


def extent(mask: np.ndarray) -> np.ndarray:
    """Box `(4,)` float32 x0, y0, x1, y1 around the nonzero pixels of a mask (H, W) uint8."""
    x, y, width, height = cv2.boundingRect(mask)
    return np.float32([x, y, x + width, y + height])
