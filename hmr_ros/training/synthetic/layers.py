# SPDX-License-Identifier: Apache-2.0
"""Lay people, furniture and patches over a canvas, with the matte that says who is seen."""

from __future__ import annotations

import cv2
import numba
import numpy as np

#: values of the matte.
NOBODY, TARGET, OTHER = 0, 1, 2


@numba.njit(cache=True, nogil=True, fastmath=True)
def _gather(
        pixels: np.ndarray, u: float, v: float, table: np.ndarray, total: np.ndarray) -> None:
    """Add one bilinear sample of premultiplied colour and cover to `total` (4,)."""
    height, width = pixels.shape[0], pixels.shape[1]
    j, i = int(np.floor(u)), int(np.floor(v))
    fu, fv = u - j, v - i
    for d in range(4):
        y, x = i + (d >> 1), j + (d & 1)
        if 0 <= y < height and 0 <= x < width and pixels[y, x, 3] > 0:
            weight = (fu if d & 1 else 1 - fu) * (fv if d >> 1 else 1 - fv)
            total[3] += weight
            for k in range(3):
                total[k] += weight * table[pixels[y, x, k], k]


@numba.njit(cache=True, nogil=True, fastmath=True)
def lay(
        canvas: np.ndarray, matte: np.ndarray, pixels: np.ndarray, inverse: np.ndarray, taps: int,
        table: np.ndarray, mark: int, bounds: np.ndarray) -> None:
    """
    Warp a cut-out onto the canvas.

    canvas (H, W, 3) uint8 and matte (H, W) uint8 are written; pixels (h, w, 4) with 0 in the last
    channel where empty; inverse (2, 3) maps canvas pixels to cut-out pixels; taps x taps samples
    per pixel; table (256, 3) float32 recolours; matte becomes `mark` where the cut-out covers more
    than half; bounds (4,) x0, y0, x1, y1 limits the work.
    """
    total, share = np.empty(4), 1.0 / (taps * taps)
    for y in range(bounds[1], bounds[3]):
        for x in range(bounds[0], bounds[2]):
            total[:] = 0.0
            for s in range(taps * taps):
                px = x + ((s % taps) + 0.5) / taps - 0.5
                py = y + ((s // taps) + 0.5) / taps - 0.5
                u = inverse[0, 0] * px + inverse[0, 1] * py + inverse[0, 2]
                v = inverse[1, 0] * px + inverse[1, 1] * py + inverse[1, 2]
                if u > -1.0 and v > -1.0 and u < pixels.shape[1] and v < pixels.shape[0]:
                    _gather(pixels, u, v, table, total)
            cover = total[3] * share
            if cover > 0.0:
                for k in range(3):
                    value = canvas[y, x, k] * (1.0 - cover) + total[k] * share
                    canvas[y, x, k] = np.uint8(min(255.0, max(0.0, value)))
                if cover > 0.5:
                    matte[y, x] = mark


def lay_cutout(
        canvas: np.ndarray, matte: np.ndarray, pixels: np.ndarray, forward: np.ndarray,
        table: np.ndarray, mark: int) -> None:
    """Lay a cut-out `(h, w, 4)` by the map `forward` `(2, 3)` from its pixels to the canvas."""
    height, width = pixels.shape[:2]
    corners = np.float64([[-1, -1], [width, -1], [-1, height], [width, height]])
    spread = corners @ forward[:, :2].T + forward[:, 2]
    size = canvas.shape[1], canvas.shape[0]
    low = np.clip(np.floor(spread.min(axis=0)), 0, size).astype(np.int64)
    high = np.clip(np.ceil(spread.max(axis=0)) + 1, 0, size).astype(np.int64)
    shrink = 1.0 / np.sqrt(abs(np.linalg.det(forward[:, :2])))
    lay(canvas, matte, pixels, cv2.invertAffineTransform(forward), min(4, max(1, round(shrink))),
        table, mark, np.concatenate([low, high]))


def _shape(
        rng: np.random.Generator, shape: tuple[int, ...], centre: np.ndarray) -> np.ndarray:
    """Mask `(H, W)` uint8 of a pole, a board, a table or a blob near `centre`."""
    mask, size = np.zeros(shape, np.uint8), shape[0]
    kind = rng.integers(4)
    if kind == 0:
        axes = tuple(int(v) for v in size * rng.uniform(0.04, 0.2, 2))
        cv2.ellipse(mask, tuple(int(v) for v in centre), axes, rng.uniform(0, 180), 0, 360, 1, -1)
        return mask
    angle = rng.normal(0, 0.12) + (0.5 * np.pi if rng.random() < 0.5 else 0)
    long, wide = {1: (2.0, rng.uniform(.015, .07)), 2: (rng.uniform(.1, .5), rng.uniform(.05, .2)),
                  3: (2.0, rng.uniform(.1, .25))}[int(kind)]
    way = np.float64([np.cos(angle), np.sin(angle)])
    side = np.float64([-way[1], way[0]])
    box = [centre + size * (a * long * way + b * wide * side)
           for a, b in ((-.5, -.5), (.5, -.5), (.5, .5), (-.5, .5))]
    cv2.fillConvexPoly(mask, np.round(box).astype(np.int32), 1)
    return mask


def lay_occluder(
        rng: np.random.Generator, canvas: np.ndarray, matte: np.ndarray, patch: np.ndarray,
        centre: np.ndarray) -> None:
    """Put an object with the surface `patch` `(H, W, 3)` in front of everything, at `centre`."""
    mask = _shape(rng, canvas.shape[:2], centre).astype(bool)
    canvas[mask], matte[mask] = patch[mask], NOBODY
