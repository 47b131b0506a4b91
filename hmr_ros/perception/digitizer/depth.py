# SPDX-License-Identifier: Apache-2.0
"""Depth as the digitizer writes it: length along the ray, encoded (sheet, section 1)."""

from __future__ import annotations

import functools
import math

import numpy as np

#: what networks give where nothing is.
FRONT_EMPTY, BACK_EMPTY = 6.0, 0.0
#: of the virtual camera, both ways.
FIELD_OF_VIEW_DEG = 50.0
#: D grows by one on so many pixels of an image of CANVAS pixels, and is 2 at length 1.
_PIXELS, _AT_ONE, _CANVAS = 512.0, 2.0, 2048
#: units of length per D.
UNITS_PER_D = _PIXELS / (_CANVAS / (2 * math.tan(math.radians(FIELD_OF_VIEW_DEG / 2))))
#: of a file: whole numbers per D, and the highest.
_FILE_SCALE, _FILE_MOST = 16384, 65535


def focal_length(side: int) -> float:
    """Focal length in pixels of the virtual camera with a square image of `side` pixels."""
    return side / (2 * math.tan(math.radians(FIELD_OF_VIEW_DEG / 2)))


def length_of(depth: np.ndarray) -> np.ndarray:
    """Length d along the ray in units of the encoded depth D: 1 is the subject's distance."""
    return 1 + (np.asarray(depth) - _AT_ONE) * UNITS_PER_D


def depth_of(length: np.ndarray) -> np.ndarray:
    """Encode length d along the ray, in units; the inverse of `length_of`."""
    return (np.asarray(length) - 1) / UNITS_PER_D + _AT_ONE


def to_file(depth: np.ndarray) -> np.ndarray:
    """Round D down to the uint16 of a depth picture; 0 is empty, as is what no uint16 holds."""
    whole = np.floor(np.asarray(depth, np.float64) * _FILE_SCALE)
    return np.where((whole > 0) & (whole <= _FILE_MOST), whole, 0).astype(np.uint16)


def from_file(picture: np.ndarray, empty: float) -> np.ndarray:
    """Return D, float32, of the uint16 of a depth picture; `empty` is one of the side's *_EMPTY."""
    return np.where(picture == 0, empty, picture / _FILE_SCALE).astype(np.float32)


@functools.lru_cache(maxsize=2)
def rays(side: int) -> np.ndarray:
    """
    Rays of length 1 through the pixels of a square image: float32 `(side, side, 3)`.

    Axes of the camera: right, down, forward. Shared: the array cannot be written.
    """
    across = (np.arange(side) + 0.5 - side / 2) / focal_length(side)
    ray = np.empty((side, side, 3))
    ray[..., 0], ray[..., 1], ray[..., 2] = across, across[:, None], 1
    ray = (ray / np.linalg.norm(ray, axis=-1, keepdims=True)).astype(np.float32)
    ray.flags.writeable = False
    return ray


def points_of(depth: np.ndarray) -> np.ndarray:
    """Points float32 `(side, side, 3)` of D `(side, side)`, in units in the camera's axes."""
    return length_of(depth).astype(np.float32)[..., None] * rays(depth.shape[0])
