# SPDX-License-Identifier: Apache-2.0
"""What reads the maps of packed encoders, in floats (bidrn sheet, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """Linear layer, or 1x1 convolution; weight (C, O) and bias (O,) float32."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map `(..., C)` to `(..., O)`, all rows as one matrix."""
        found = values.reshape(-1, len(self.weight)) @ self.weight
        found += self.bias
        return found.reshape(*values.shape[:-1], -1)


def soft_argmax(logits: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Expected places `(N, J, 3)` x, y, z in cells and probabilities `(N, H, W, J, D)`.

    logits  (N, H, W, J * D) float32
    """
    volumes = logits.reshape(*logits.shape[:3], -1, depth)
    likely = np.exp(volumes - volumes.max((1, 2, 4), keepdims=True))
    likely /= likely.sum((1, 2, 4), keepdims=True)
    places = []
    for axis, others in ((2, (1, 4)), (1, (2, 4)), (4, (1, 2))):
        cells = np.arange(volumes.shape[axis], dtype=np.float32)
        along = np.moveaxis(likely.sum(others), -1 if axis == 4 else 1, -1)
        places.append(along @ cells)
    return np.stack(places, -1), likely


def sampled(maps: np.ndarray, places: np.ndarray) -> np.ndarray:
    """
    Values `(N, J, C)` of maps `(N, H, W, C)` at `places` `(N, J, 2)`, x and y in cells.

    Between cells bilinear; outside there are zeros.
    """
    count, height, width, channels = maps.shape
    found = np.zeros((*places.shape[:2], channels), np.float32)
    images = np.arange(count)[:, None]
    for y, share_y in corners(places[..., 1], height):
        for x, share_x in corners(places[..., 0], width):
            found += (share_y * share_x)[..., None] * maps[images, y, x]
    return found


def corners(places: np.ndarray, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cells before and behind places along one axis, and their shares: 0 outside."""
    before = np.floor(places)
    rest = (places - before).astype(np.float32)
    found = []
    for step, share in ((0, 1 - rest), (1, rest)):
        cell = before.astype(np.int64) + step
        inside = (cell >= 0) & (cell < length)
        found.append((np.where(inside, cell, 0), np.where(inside, share, np.float32(0))))
    return found


def described(maps: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """What is found at joints `(N, J, 3)`, and where they are: `(N, J * (C + 3))`."""
    known = np.concatenate([sampled(maps, joints[..., :2]), joints], -1)
    return known.reshape(len(known), -1)


def reduced(line: Line, maps: np.ndarray) -> np.ndarray:
    """1x1 convolution and norm, and what of it is positive."""
    return np.maximum(line(maps), 0)


#: of the six numbers of a rotation, rows of two: mirroring in x turns about x alone stay.
_MIRRORED = np.float32([1, -1, -1, 1, -1, 1])


def restored(
        joints: np.ndarray, pose: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Turn left hands back, which went through the network mirrored.

    joints (2N, J, 3) and six numbers per rotation (2N, 6 R), the left half first; width in cells.
    Returns (N, 2, J, 3) and (N, 2, 6 R).
    """
    half = len(joints) // 2
    joints = np.stack([joints[:half], joints[half:]], 1)
    joints[:, 0, :, 0] = width - 1 - joints[:, 0, :, 0]
    turned = pose[:half] * np.tile(_MIRRORED, pose.shape[1] // 6)
    return joints, np.stack([turned, pose[half:]], 1)


def translation(raw: np.ndarray, farthest: float) -> np.ndarray:
    """Camera `(N, 3)` in metres from three numbers; depths lie between 0 and `farthest`."""
    depth = farthest / (1 + np.exp(-raw[:, 2:].astype(np.float64)))
    return np.concatenate([raw[:, :2], depth], 1).astype(np.float32)
