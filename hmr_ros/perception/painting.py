# SPDX-License-Identifier: Apache-2.0
"""Triangles painted into small pictures from far to near: numpy alone, no z-buffer."""

from __future__ import annotations

import numpy as np

# Distance of samples on a triangle, in pixels; up to 0.7 no pixel is missed.
_SAMPLE_STEP_PX = 0.7
_MOST_STEPS = 128


def _steps_table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Barycentric samples of triangles cut into 1, 2, ... steps, their starts and counts."""
    parts = []
    for steps in range(1, _MOST_STEPS + 1):
        i, j = np.meshgrid(np.arange(steps), np.arange(steps), indexing='ij')
        inside = i + j < steps
        corner = np.stack([i[inside], j[inside]], axis=1)
        parts.append(((corner + 1 / 3) / steps).astype(np.float32))
    counts = np.array([len(part) for part in parts])
    return np.concatenate(parts), np.concatenate([[0], np.cumsum(counts)[:-1]]), counts


_SAMPLES, _STARTS, _COUNTS = _steps_table()


def facing(
        corners: np.ndarray, columns: np.ndarray,
        shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """
    Tell which triangles face the viewer and touch a picture, and how large they are in it.

    corners  (V, 2) float32 pixels of the vertices
    columns  (3, F) vertex numbers, counter-clockwise seen from outside
    shape    rows and columns of the picture

    Returns bool `(F,)` and float32 `(F,)` pixels, the longer side of each one's box.
    """
    xs, ys = corners[columns, 0], corners[columns, 1]
    # The picture's y axis points down, so triangles seen from outside turn clockwise in it.
    turn = (xs[1] - xs[0]) * (ys[2] - ys[0]) - (ys[1] - ys[0]) * (xs[2] - xs[0])
    kept = turn < 0
    span = np.zeros(len(turn), np.float32)
    for values, limit in ((xs, shape[1]), (ys, shape[0])):
        low, high = values.min(axis=0), values.max(axis=0)
        kept &= (high >= 0) & (low <= limit)
        np.maximum(span, high - low, out=span)
    return kept, span


def paint(
        corners: np.ndarray, depth: np.ndarray, triangles: np.ndarray, spans: np.ndarray,
        values: tuple[np.ndarray, ...], shape: tuple[int, int]) -> list[np.ndarray]:
    """
    Paint triangles, the farthest first: float32 pictures of `shape`, 0 where none is.

    corners    (V, 2) float32 pixels of the vertices
    depth      (V,) how far they are
    triangles  (T, 3) vertex numbers
    spans      (T,) pixels, see `facing`
    values     each (V,): what is painted, one picture for each, interpolated between vertices
    """
    order = np.argsort(-depth[triangles].sum(axis=1))
    triangles, spans = triangles[order], spans[order]
    steps = np.clip(np.ceil(spans / _SAMPLE_STEP_PX), 1, _MOST_STEPS).astype(int) - 1
    counts = _COUNTS[steps]
    owner = np.repeat(np.arange(len(triangles)), counts)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    weights = _SAMPLES[np.repeat(_STARTS[steps], counts) + position]
    x, y = (_interpolate(corners[:, axis][triangles], owner, weights).astype(np.int32)
            for axis in (0, 1))
    inside = np.flatnonzero((x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0]))
    winners = np.full(shape, -1)
    # Of several samples on one pixel the last one, the nearest, stays.
    winners.ravel()[(y * shape[1] + x)[inside]] = inside
    there = winners >= 0
    seen = winners[there]
    pictures = [np.zeros(shape, np.float32) for _ in values]
    for picture, column in zip(pictures, values):
        picture[there] = _interpolate(column[triangles], owner[seen], weights[seen])
    return pictures


def _interpolate(corners: np.ndarray, owner: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values at samples, `(S,)`, of triangles with `corners` `(T, 3)`."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return corners[:, 0][owner] + weights[:, 0] * first[owner] + weights[:, 1] * second[owner]
