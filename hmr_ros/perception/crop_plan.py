# SPDX-License-Identifier: Apache-2.0
"""
Where every sample of bilinear crops lies, for engines that cut the crops themselves.

In OpenCV's arithmetic, so that both ways give the same grey levels: `cv2.warpAffine` rounds the map
to 1/1024 pixel and the samples to 1/32. Seen alike in OpenCV 4.5.5, 4.8.1, 4.10, 4.11, 4.12 and
4.14 (x86).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

import numpy as np

from hmr_ros.perception.crops import (
    CropTransform, finer_sampling, level_tables, RGB_PLANES, sampling_matrix)

_MAP_STEPS = 1024
_STEPS = 32


@dataclass(frozen=True)
class CropPlan:
    """
    N crops of one image, each `size` pixels wide and high.

    size       pixels of a side
    channels   the channels of the image that are red, green and blue
    finer      int32 `(N,)`: a crop's pixel is the mean of finer x finer samples
    positions  int32 `(N, 2, L)`: where the columns (row 0) and rows (row 1) of samples lie in the
               image, in 1/32 pixel, rising; from size * finer on they repeat the last
    levels     float32 `(3, 256)`: what a grey level is in the batch, for red, green and blue
    """

    size: int
    channels: tuple[int, int, int]
    finer: np.ndarray
    positions: np.ndarray
    levels: np.ndarray

    def __len__(self) -> int:
        return len(self.finer)

    def part(self, rows: slice) -> CropPlan:
        """Return the plan of some of the crops."""
        return replace(self, finer=self.finer[rows], positions=self.positions[rows])


def plan_crops(
        color_order: str, transforms: Sequence[CropTransform], size: int,
        mean: Sequence[float], std: Sequence[float]) -> CropPlan:
    """
    Plan what `hmr_ros.perception.crops.cut_crops` cuts in the style BILINEAR.

    mean, std  per channel R, G, B of values 0 to 1
    """
    finer = np.array([finer_sampling(transform) for transform in transforms], np.int32)
    matrices = np.array([sampling_matrix(transform) for transform in transforms]).reshape(-1, 2, 3)
    samples = np.minimum(np.arange(size * finer.max(initial=1)), size * finer[:, None] - 1)
    return CropPlan(
        size, RGB_PLANES[color_order], finer, _positions(matrices, samples),
        np.stack(level_tables(mean, std)))


def _positions(matrices: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """As warpAffine computes them from the inverse of a matrix, columns and rows each their way."""
    scale, shift = matrices[:, 0, :1], matrices[:, :, 2]
    # The inverse of the determinant first: other orders differ in the last bit.
    inverse = scale * (1 / (scale * scale))
    origin, way = -inverse * shift, inverse * samples
    columns = np.rint(way * _MAP_STEPS) + np.rint(origin[:, :1] * _MAP_STEPS)
    rows = np.rint((way + origin[:, 1:]) * _MAP_STEPS)
    fine = _MAP_STEPS // _STEPS
    return (np.stack([columns, rows], axis=1).astype(np.int32) + fine // 2) // fine
