# SPDX-License-Identifier: Apache-2.0
"""A stored person in a new place, new light, new company and a new crop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hmr_ros.perception.crops import MARGIN
from hmr_ros.training.synthetic import augment
from hmr_ros.training.synthetic.backgrounds import background_pool
from hmr_ros.training.synthetic.cutout_file import Cutouts
from hmr_ros.training.synthetic.errors import SyntheticError
from hmr_ros.training.synthetic.labels import project
from hmr_ros.training.synthetic.layers import OTHER, TARGET, lay_cutout, lay_occluder


@dataclass(frozen=True)
class Recipe:
    """
    Chances and strengths of the augmentation.

    Chances: flip, turn, truncate (a picture border cuts the person), company_behind, company_front,
    occlude, blur, coarsen, compress, grey, photo (a photograph as background, where given).
    turn_deg and zoom, shift are spreads of the turn, of the box scale and of the box centre (in box
    sides); noise the highest noise in grey levels; coarsest the smallest crop in pixels.
    """

    flip: float = 0.5
    turn: float = 0.4
    truncate: float = 0.22
    company_behind: float = 0.30
    company_front: float = 0.14
    occlude: float = 0.30
    blur: float = 0.25
    coarsen: float = 0.30
    compress: float = 0.30
    grey: float = 0.04
    photo: float = 0.6
    turn_deg: float = 14.0
    zoom: float = 0.13
    shift: float = 0.045
    noise: float = 14.0
    coarsest: int = 24


#: no augmentation but the background: for clean evaluation.
CLEAN = Recipe(**dict.fromkeys(
    ('flip', 'turn', 'truncate', 'company_behind', 'company_front', 'occlude', 'blur', 'coarsen',
     'compress', 'grey', 'zoom', 'shift', 'noise'), 0.0))


@dataclass(frozen=True)
class Placement:
    """
    How a cut-out goes into the crop.

    forward (2, 3) cut-out window to crop pixels; box (4,) detector box, side the crop's height and
    centre (2,) its middle, in pixels of the turned picture; visible (4,) x0, y0, x1, y1 of the
    picture within the crop, in crop pixels; turn (2, 2), flipped.
    """

    forward: np.ndarray
    box: np.ndarray
    side: float
    centre: np.ndarray
    visible: np.ndarray
    turn: np.ndarray
    flipped: bool


def _chance(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def _clip_hull(hull: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Bounding box `(4,)` of a convex hull (K, 2) within a rectangle, exact at its borders."""
    following = np.roll(hull, -1, axis=0)
    share = np.linspace(0, 1, 24, endpoint=False)[:, None, None]
    edge = (hull * (1 - share) + following * share).reshape(-1, 2)
    edge = np.concatenate([hull, edge])
    inside = np.all((edge >= limits[:2]) & (edge <= limits[2:]), axis=1)
    kept = edge[inside] if inside.any() else edge
    return np.concatenate([kept.min(axis=0), kept.max(axis=0)])


def _truncation(rng: np.random.Generator, box: np.ndarray, trunk: np.ndarray) -> np.ndarray:
    """
    Picture limits `(4,)` that cut off up to 55 % of the person's box, mostly from below.

    Half of the `trunk` points (K, 2) stay inside: no detector reports a lone hand as a person.
    """
    limits = np.float64([-1e9, -1e9, 1e9, 1e9])
    span = np.concatenate([box[2:] - box[:2]] * 2)
    edge = rng.choice(4, p=[.2, .1, .2, .5])
    deep = rng.uniform(0.08, 0.55 if edge == 3 else 0.4) * span[edge]
    middle = np.median(trunk, axis=0)[edge % 2]
    limits[edge] = (min(box[edge] + deep, middle) if edge < 2 else max(box[edge] - deep, middle))
    return limits


def _jittered(
        rng: np.random.Generator, recipe: Recipe, box: np.ndarray) -> np.ndarray:
    """Draw a detector's box `(4,)` for the true box: another scale, another centre, other sides."""
    middle, half = 0.5 * (box[:2] + box[2:]), 0.5 * (box[2:] - box[:2])
    side = 2 * half.max() * MARGIN
    scale = np.exp(np.clip(rng.normal(0, recipe.zoom), -0.3, 0.3))
    middle = middle + side * np.clip(rng.normal(0, recipe.shift, 2), -0.12, 0.12)
    return np.concatenate([middle - half * scale, middle + half * scale])


def degrade(
        rng: np.random.Generator, image: np.ndarray, recipe: Recipe, grain: augment.Grain,
        blur_px: float) -> np.ndarray:
    """
    Return what a camera of the `recipe` makes of an image `(H, W, 3)`, which may change too.

    blur_px  the most that it blurs
    """
    if _chance(rng, recipe.blur):
        image = augment.blur(rng, image, blur_px)
    if _chance(rng, recipe.coarsen):
        image = augment.coarsen(rng, image, recipe.coarsest)
    if recipe.noise > 0:
        strength = max(0.0, rng.uniform(-0.7, 1.0)) ** 1.5 * recipe.noise
        grain.finish(rng, image, augment.colour_table(rng), strength)
    if _chance(rng, recipe.compress):
        image = augment.compress(rng, image)
    if _chance(rng, recipe.grey):
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return image


class Painter:
    """
    Endless crops (H, W) from a store of cut-out people; what is known of them, subclasses say.

    A person's box grows to the shape of the crop and then by `margin` about its centre.
    """

    #: rows of the store's joints3d that lie in the trunk.
    TRUNK: list[int] = []

    def __init__(
            self, store: Cutouts, shape: tuple[int, int], seed: int, recipe: Recipe,
            background_folder: str | Path | None, backgrounds: int, margin: float) -> None:
        if min(shape) < 32 or shape[1] > shape[0] or len(store) == 0:
            raise SyntheticError(
                f'crops of {shape[0]} x {shape[1]} pixels, {len(store)} people; expected 32 px or '
                'more, no wider than high, and a store with people')
        rng = np.random.default_rng([seed, 7])
        self.store, self.shape, self.seed, self.recipe = store, shape, seed, recipe
        self._margin = margin
        self._span = shape[0] * 3 // 2
        self._drawn, self._photos = background_pool(
            rng, backgrounds, self._span, background_folder)
        self._grain = augment.Grain(rng)
        self._plain = np.tile(np.arange(256, dtype=np.float32)[:, None], 3)

    def __len__(self) -> int:
        return len(self.store)

    def rng(self, epoch: int) -> np.random.Generator:
        """Random numbers of an epoch: the same seed and epoch give the same samples."""
        return np.random.default_rng([self.seed, 11, epoch])

    def batch(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """Stack `count` samples of random people."""
        rows = [self.sample(int(i), rng) for i in rng.integers(len(self.store), size=count)]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Put person `index` of the store into a crop."""
        return self.frame(index, rng, rng)

    def frame(
            self, index: int, place_rng: np.random.Generator,
            paint_rng: np.random.Generator) -> dict[str, np.ndarray]:
        """
        As `sample`, with draws of their own for the crop and for what is painted.

        Frames of a film keep their background when each gets an equal `paint_rng`.
        """
        place = self._place(index, place_rng)
        image, mask = self._paint(index, place, paint_rng)
        return {'image': image, **self._labels(index, place, mask)}

    def _labels(self, index: int, place: Placement, mask: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of person `index` in the crop, seen where `mask` `(H, W)` is 1."""
        raise NotImplementedError

    def _place(self, index: int, rng: np.random.Generator) -> Placement:
        """Choose mirror, turn, picture border and box; all coordinates in turned pixels."""
        recipe, store = self.recipe, self.store
        flipped = _chance(rng, recipe.flip)
        angle = np.radians(np.clip(rng.normal(0, recipe.turn_deg), -40, 40))
        angle *= _chance(rng, recipe.turn)
        turn = np.float64([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = turn @ np.diag([-1.0 if flipped else 1.0, 1.0])
        hull = store.outline[index] @ linear.T
        box, limits = _clip_hull(hull, np.float64([-1e9, -1e9, 1e9, 1e9])), None
        if _chance(rng, recipe.truncate):
            trunk = project(
                store.joints3d[index:index + 1, self.TRUNK], store.focal[index:index + 1],
                store.centre[index:index + 1])[0] @ linear.T
            limits = _truncation(rng, box, trunk)
            box = _clip_hull(hull, limits)
        box = _jittered(rng, recipe, box)
        height, width = self.shape
        extent = np.float64([width, height])
        side = self._margin * ((box[2:] - box[:2]) * (height / extent)).max()
        centre, scale = 0.5 * (box[:2] + box[2:]), height / side
        forward = np.concatenate(
            [linear * scale, (extent / 2 - centre * scale)[:, None]], axis=1)
        visible = np.float64([0, 0, width, height])
        if limits is not None:
            inner = (limits - np.tile(centre, 2)) * scale + np.tile(extent / 2, 2)
            visible = np.clip(np.round(inner), 0, np.tile(extent, 2))
        return Placement(forward, box, side, centre, visible, turn, flipped)

    def _backdrop(self, rng: np.random.Generator) -> np.ndarray:
        """A random piece `(H, W, 3)` of a background, mirrored and scaled, a fresh copy."""
        photo = len(self._photos) and _chance(rng, self.recipe.photo)
        pool = self._photos if photo else self._drawn
        image = pool[rng.integers(len(pool))]
        cut = int(self._span * np.exp(rng.uniform(np.log(0.3), 0)))
        x, y = rng.integers(0, self._span - cut + 1, 2)
        height, width = self.shape
        piece = image[y:y + cut, x:x + cut * width // height]
        if _chance(rng, 0.5):
            piece = piece[:, ::-1]
        return cv2.resize(np.ascontiguousarray(piece), (width, height),
                          interpolation=cv2.INTER_LINEAR)

    def _paint(
            self, index: int, place: Placement,
            rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        recipe = self.recipe
        canvas = self._backdrop(rng)
        matte = np.zeros(self.shape, np.uint8)
        if _chance(rng, recipe.company_behind):
            self._company(index, place, canvas, matte, rng, front=0.0)
        self._lay(index, place.forward, canvas, matte, TARGET, rng)
        if _chance(rng, recipe.company_front):
            self._company(index, place, canvas, matte, rng, front=0.35)
        if _chance(rng, recipe.occlude):
            for _ in range(rng.integers(1, 3)):
                centre = self._spot(index, place, rng)
                lay_occluder(rng, canvas, matte, self._backdrop(rng), centre)
        image = degrade(rng, canvas, recipe, self._grain, 0.008 * self.shape[0])
        x0, y0, x1, y1 = place.visible.astype(int)
        mask = (matte == TARGET).astype(np.uint8)
        for array in (image, mask):
            array[:y0], array[y1:], array[:, :x0], array[:, x1:] = 0, 0, 0, 0
        return image, mask

    def _spot(self, index: int, place: Placement, rng: np.random.Generator) -> np.ndarray:
        """Point of the crop `(2,)` near the person's outline or inside."""
        mix = rng.dirichlet(np.ones(3))
        hull = self.store.outline[index][rng.integers(32, size=3)]
        return place.forward[:, :2] @ (mix @ hull) + place.forward[:, 2]

    def _lay(
            self, index: int, forward: np.ndarray, canvas: np.ndarray, matte: np.ndarray,
            mark: int, rng: np.random.Generator) -> None:
        corner = self.store.frames[index, :2]
        shifted = forward.copy()
        shifted[:, 2] += forward[:, :2] @ corner
        table = augment.colour_table(rng, 0.6) if self.recipe.noise > 0 else self._plain
        lay_cutout(canvas, matte, self.store.image(index), shifted, table, mark)

    def _company(
            self, index: int, place: Placement, canvas: np.ndarray, matte: np.ndarray,
            rng: np.random.Generator, front: float) -> None:
        """Lay one to three others beside the person, at least `front` half widths away."""
        hull = self.store.outline[index] @ place.forward[:, :2].T + place.forward[:, 2]
        middle, half = hull.mean(axis=0), 0.5 * (hull.max(axis=0) - hull.min(axis=0))
        for _ in range(rng.integers(1, 4) if front == 0 else 1):
            other = int(rng.integers(len(self.store)))
            outline = self.store.outline[other]
            scale = np.linalg.norm(half) / np.linalg.norm(np.ptp(outline, axis=0) / 2)
            scale *= np.exp(rng.normal(-0.15 if front == 0 else 0.1, 0.25))
            way = rng.choice([-1.0, 1.0])
            away = (front + rng.uniform(0.4, 2.2)) * max(half[0], 0.25 * half[1])
            target = middle + [way * away, rng.normal(0, 0.15) * half[1]]
            linear = scale * np.diag([rng.choice([-1.0, 1.0]), 1.0])
            shift = target - linear @ outline.mean(axis=0)
            self._lay(other, np.concatenate([linear, shift[:, None]], axis=1), canvas, matte,
                      OTHER, rng)
