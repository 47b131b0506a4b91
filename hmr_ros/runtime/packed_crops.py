# SPDX-License-Identifier: Apache-2.0
"""Boxes of hands and face in pixels, and the crops of them, as matrices (bidrn sheet, 1)."""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np

#: boxes of more than this many pictures' sides are sampled more thinly, as `torch_crops` does.
_LARGEST = 8


def decode_boxes(
        centres: np.ndarray, sizes: np.ndarray, cell: tuple[float, float],
        growth: Sequence[float]) -> np.ndarray:
    """
    Squares `(N, P, 4)` x0, y0, x1, y1 of parts in pixels.

    centres, sizes  (N, P, 2) in cells;  cell: width and height of one in pixels
    growth          of each part: the shorter side grows to the longer one, then all by this
    """
    pixels = np.float32(cell)
    half = 0.5 * np.float32(growth)[:, None] * (sizes * pixels).max(-1, keepdims=True)
    middle = centres * pixels
    return np.concatenate([middle - half, middle + half], -1)


def roi_align(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """
    Crop `(C, size, size)` of `box` `(4,)`, x0, y0, x1, y1 in pixels of `image` `(C, H, W)`.

    As RoIAlign with `aligned` false and as many samples a bin as it has pixels, rounded up; boxes
    are at least a pixel wide. Bins are products of what each axis gives, so it is two matrices.
    """
    (x, across), (y, down) = (
        _axis(box[axis], box[axis + 2], size, image.shape[2 - axis]) for axis in (0, 1))
    part = image[:, y:y + down.shape[1], x:x + across.shape[1]]
    return np.matmul(np.matmul(down, part), across.T)


def _axis(start: np.float32, stop: np.float32, size: int, length: int) -> tuple[int, np.ndarray]:
    """First pixel that is seen along an axis, and shares `(size, pixels)` from there on."""
    side = max(stop - start, np.float32(1))
    most = max(1, math.ceil(_LARGEST * length / size))
    count = min(most, max(1, math.ceil(side / np.float32(size))))
    steps = np.arange(size * count, dtype=np.float32) + np.float32(0.5)
    places = start + steps * side / np.float32(size * count)
    # Up to a pixel outside it is the border, then 0.
    known = (places >= -1) & (places <= length)
    places = np.clip(places, 0, length - 1)
    before = np.minimum(np.floor(places).astype(np.int64), length - 2)
    rest = (places - before).astype(np.float32)
    first = int(before.min())
    shares = np.zeros((size, int(before.max()) + 2 - first), np.float32)
    bins = np.repeat(np.arange(size), count)
    for column, share in ((before, 1 - rest), (before + 1, rest)):
        np.add.at(shares, (bins, column - first), share * known / np.float32(count))
    return first, shares
