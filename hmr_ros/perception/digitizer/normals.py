# SPDX-License-Identifier: Apache-2.0
"""Normals as the digitizer's networks write them, and what they mean (sheet, section 1)."""

from __future__ import annotations

import numpy as np

from hmr_ros.perception.digitizer.depth import focal_length, length_of
from hmr_ros.perception.digitizer.parts import CANVAS
from hmr_ros.perception.errors import PerceptionError

#: by what the normal that points away from the camera is multiplied to point out of the body.
FRONT, BACK = -1.0, 1.0
_FORWARD = 1 / 255
#: less is empty.
_LEAST_DEPTH = 0.2
_PIXELS_PER_D = 512


def encode(depth: np.ndarray) -> np.ndarray:
    """
    Encode the slopes of D `(S, S)`, 0 where nothing is: float32 `(3, S, S)`, 0 to 1.

    Of the front red is low on the viewer's right and green is high on top; of the back both are
    the other way around.
    """
    slope = np.zeros((3, *depth.shape))
    slope[0, :, :-1] = depth[:, :-1] - depth[:, 1:]
    slope[1, 1:] = depth[:-1] - depth[1:]
    slope[2] = _FORWARD
    encoded = (slope / np.linalg.norm(slope, axis=0) + 1) / 2
    return np.where(depth < _LEAST_DEPTH, 0, encoded).astype(np.float32)


def decode(encoded: np.ndarray, depth: np.ndarray, outward: float) -> np.ndarray:
    """
    Recover normals of length 1 that point out of the body: float32 `(S, S, 3)`.

    encoded  (3, S, S), as `encode` gives them
    depth    (S, S) D of the same side
    outward  FRONT or BACK

    Axes of the camera: right, down, forward. 0 where nothing is encoded, or what no depth
    could give. The steepness of what is
    encoded depends on the distance and on S, so neither can be left out.
    """
    side = depth.shape[0]
    if depth.shape != (side, side) or encoded.shape != (3, side, side):
        raise PerceptionError(
            f'normals have shape {encoded.shape} and depth {depth.shape}; expected (3, S, S) and '
            '(S, S)')
    x, y, forward = 2 * np.asarray(encoded, np.float64) - 1
    there = forward > 0
    scale = np.divide(_PIXELS_PER_D * _FORWARD * side / CANVAS, forward * length_of(depth),
                      out=np.zeros_like(forward), where=there)
    normal = np.cross(*_tangents(x * scale, y * scale))
    normal *= outward / np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.where(there[..., None], normal, 0).astype(np.float32)


def _tangents(right: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions `(S, S, 3)` of the surface to the right and down, of how fast it comes nearer."""
    side = right.shape[0]
    across = (np.arange(side) + 0.5 - side / 2) / focal_length(side)
    ray = np.stack([*np.meshgrid(across, across), np.ones((side, side))], -1)
    far = np.linalg.norm(ray, axis=-1, keepdims=True)
    ray /= far
    axes = np.eye(3)
    sideways, downwards = ((axes[axis] - ray[..., axis:axis + 1] * ray) / far for axis in (0, 1))
    return sideways - right[..., None] * ray, downwards - down[..., None] * ray
