# SPDX-License-Identifier: Apache-2.0
"""Bicubic resizing with Pillow's kernel, in numpy (rsc_net sheet, section 1.2)."""

from __future__ import annotations

import functools

import numpy as np

# Sharpness of the cubic kernel; OpenCV's is -0.75, and its cubic never widens when it shrinks.
_A = -0.5
_SUPPORT = 2.0
#: numbers; larger weights are not kept, for those of many sizes would fill the memory.
_MOST_KEPT = 2 ** 18


def _kernel(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = _A * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, near, np.where(x < _SUPPORT, far, 0))


def bicubic_weights(source: int, target: int) -> np.ndarray:
    """
    Weights `(target, source)` float32 of every source pixel in every target pixel.

    Antialiased when it shrinks; rows sum to 1. The array may be shared: it cannot be written.
    """
    weigh = _kept_weights if source * target <= _MOST_KEPT else _weights
    return weigh(source, target)


def _weights(source: int, target: int) -> np.ndarray:
    scale = source / target
    wide = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale
    first = np.maximum(0, (centre - _SUPPORT * wide + 0.5).astype(int))[:, None]
    last = np.minimum(source, (centre + _SUPPORT * wide + 0.5).astype(int))[:, None]
    pixel = np.arange(source)
    weights = _kernel((pixel + 0.5 - centre[:, None]) / wide)
    weights *= (pixel >= first) & (pixel < last)
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    weights.flags.writeable = False
    return weights


_kept_weights = functools.lru_cache(maxsize=64)(_weights)


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """
    Resize uint8 `(H, W, C)` to uint8 `(side, side, C)`.

    Along the rows first, then along the columns, each rounded to whole grey levels: as Pillow's
    `resize((side, side), BICUBIC)` of a square, from which single pixels differ by one level.
    (Some releases of Pillow begin with the columns when an image is not square.)
    """
    height, width = image.shape[:2]
    planes = np.moveaxis(image, 2, 0).astype(np.float32)
    planes = _rounded(planes @ bicubic_weights(width, side).T)
    planes = _rounded(bicubic_weights(height, side) @ planes)
    return np.ascontiguousarray(np.moveaxis(planes, 0, 2).astype(np.uint8))


def _rounded(planes: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(planes + np.float32(0.5)), 0, 255)
