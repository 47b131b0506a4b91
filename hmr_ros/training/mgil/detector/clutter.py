# SPDX-License-Identifier: Apache-2.0
"""What stands about where people walk and must not be taken for them, and what hides them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from hmr_ros.training.synthetic.cutouts import CutoutStore
from hmr_ros.training.synthetic.layers import lay_cutout, NOBODY

_PLAIN_TABLE = np.tile(np.arange(256, dtype=np.float32)[:, None], 3)
#: chance that a part of a thing is of another colour.
_BANDED = 0.5
#: rows of a cut-out that are a garment without head and feet.
_GARMENT = (0.25, 0.7)


def _points(corners: list[tuple[float, float]]) -> np.ndarray:
    return np.round(np.float64(corners)).astype(np.int32)


def _post(rng: np.random.Generator, mask: np.ndarray, x: float, y: float, tall: float) -> None:
    """A post, a lamp or a sign on a post."""
    thick, tall = tall * rng.uniform(0.02, 0.14), tall * rng.uniform(0.4, 3)
    lean = rng.normal(0, 0.03) * tall
    cv2.fillConvexPoly(mask, _points([(x - thick / 2, y), (x + thick / 2, y),
                                      (x + thick / 2 + lean, y - tall),
                                      (x - thick / 2 + lean, y - tall)]), 1)
    if rng.random() < 0.5:
        half = np.maximum(thick, tall * rng.uniform(0.03, 0.16, 2))
        top = y - tall * rng.uniform(0.5, 1)
        if rng.random() < 0.5:
            cv2.ellipse(mask, (int(x + lean), int(top)), (int(half[0]), int(half[1])), 0, 0, 360,
                        1, -1)
        else:
            cv2.rectangle(mask, (int(x - half[0]), int(top - half[1])),
                          (int(x + half[0]), int(top + half[1])), 1, -1)


def _cone(rng: np.random.Generator, mask: np.ndarray, x: float, y: float, tall: float) -> None:
    """A traffic cone, a bollard, a bush: wider below."""
    wide, tall = tall * rng.uniform(0.1, 0.3), tall * rng.uniform(0.25, 0.9)
    top = wide * rng.uniform(0, 0.8)
    cv2.fillConvexPoly(mask, _points([(x - wide, y), (x + wide, y), (x + top, y - tall),
                                      (x - top, y - tall)]), 1)


def _tripod(rng: np.random.Generator, mask: np.ndarray, x: float, y: float, tall: float) -> None:
    """Three thin legs under a head, a bicycle rack, a bare sapling."""
    top, thick = y - tall * rng.uniform(0.6, 1.5), max(1, int(tall * rng.uniform(0.015, 0.05)))
    hub = top + (y - top) * rng.uniform(0, 0.4)
    for foot in rng.uniform(-0.45, 0.45, 3):
        cv2.line(mask, (int(x), int(hub)), (int(x + foot * tall), int(y)), 1, thick)
    cv2.line(mask, (int(x), int(top)), (int(x), int(hub)), 1, thick)
    cv2.circle(mask, (int(x), int(top)), max(1, int(tall * rng.uniform(0.02, 0.07))), 1, -1)


def _box(rng: np.random.Generator, mask: np.ndarray, x: float, y: float, tall: float) -> None:
    """A bin, a cabinet, a door, a window, a parked van."""
    wide, tall = tall * np.exp(rng.uniform(np.log([.1, .25]), np.log([1.2, 1.4])))
    lift = rng.choice([0.0, rng.uniform(0, 2) * tall])
    cv2.rectangle(mask, (int(x - wide), int(y - lift - tall)), (int(x + wide), int(y - lift)), 1,
                  -1)


def _blob(rng: np.random.Generator, mask: np.ndarray, x: float, y: float, tall: float) -> None:
    """A shrub, a stone, a heap."""
    half = tall * np.exp(rng.uniform(np.log([.05, .08]), np.log([.5, .5])))
    cv2.ellipse(mask, (int(x), int(y - half[1])), (int(half[0]) + 1, int(half[1]) + 1),
                rng.normal(0, 15), 0, 360, 1, -1)


_KINDS: tuple[tuple[Callable, float], ...] = (
    (_post, .3), (_cone, .15), (_tripod, .1), (_box, .3), (_blob, .15))


def lay_thing(
        rng: np.random.Generator, canvas: np.ndarray, matte: np.ndarray, patch: np.ndarray,
        foot: np.ndarray, tall: float) -> None:
    """
    Put a thing where a person would be, over all that is there.

    canvas, patch (H, W, 3) uint8, matte (H, W) uint8; foot (2,) pixels, tall: a person's height
    there. The thing, or a part of it, shows the surface `patch`, or one colour with that surface's
    light.
    """
    mask = np.zeros(canvas.shape[:2], np.uint8)
    kinds, shares = zip(*_KINDS)
    kinds[rng.choice(len(kinds), p=shares)](rng, mask, foot[0], foot[1], tall)
    if rng.random() < _BANDED:
        top = int(foot[1] - tall * rng.uniform(0.2, 1))
        _band(mask, top, top + max(1, int(tall * rng.uniform(0.1, 0.6))))
    for value in range(1, int(mask.max()) + 1):
        where = mask == value
        surface = patch[where].astype(np.float32)
        if rng.random() < 0.6:
            colour = rng.uniform(5, 250) + rng.normal(0, 45, 3) * rng.choice([0.2, 1, 2])
            surface = colour + rng.uniform(0, 0.4) * (surface - 128)
        canvas[where], matte[where] = np.clip(surface, 0, 255).astype(np.uint8), NOBODY


def _band(mask: np.ndarray, top: int, bottom: int) -> None:
    """Mark rows of a thing by 2: stripes, lids and signs, as clothes have other colours too."""
    rows = mask[max(top, 0):max(bottom, 0)]
    rows[rows == 1] = 2


def lay_garment(
        rng: np.random.Generator, canvas: np.ndarray, matte: np.ndarray, store: CutoutStore,
        foot: np.ndarray, tall: float) -> None:
    """Put clothes without anybody inside, turned and mirrored; arguments as of `lay_thing`."""
    pixels = store.image(int(rng.integers(len(store))))
    top, bottom = (int(share * len(pixels)) for share in _GARMENT)
    pixels = np.ascontiguousarray(pixels[top:max(bottom, top + 1)])
    scale = 0.5 * tall * rng.uniform(0.5, 1.2) / max(pixels.shape[:2])
    angle = rng.uniform(0.3 * np.pi, 0.7 * np.pi) * rng.choice([-1, 1])
    turn = np.float64([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turn @ np.diag([rng.choice([-1.0, 1.0]), rng.uniform(0.5, 1)])
    middle = 0.5 * np.float64([pixels.shape[1], pixels.shape[0]])
    forward = np.concatenate([linear, (foot - linear @ middle)[:, None]], axis=1)
    lay_cutout(canvas, matte, pixels, forward, _PLAIN_TABLE, NOBODY)
