# SPDX-License-Identifier: Apache-2.0
"""What the phase high refines before networks of other phases are there: truth, spoiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from hmr_ros.networks.digitizer_2k2k.depth import emptied
from hmr_ros.perception.digitizer.alignment import Alignment
from hmr_ros.perception.digitizer.frame import LOW
from hmr_ros.perception.digitizer.patches import covered
from hmr_ros.training.digitizer_2k2k.losses import Truth

#: which of LOW pixels a small map of true depth takes (sheet, 3.2).
OFFSET = 3
#: spread of errors of D, cells that they are alike in, in small pixels; a D is half a metre.
_DEPTH_ERROR, _DEPTH_CELL = 0.05, 8
_NORMAL_ERROR, _NORMAL_CELL = 0.04, 16
_BLURRED = 0.5


def small_depth(depth: torch.Tensor) -> torch.Tensor:
    """True D `(N, 2, s, s)` at an eighth of the resolution: no means, they would mix bodies."""
    return depth[:, :, OFFSET::LOW, OFFSET::LOW]


def spoiled_depth(depth: torch.Tensor) -> torch.Tensor:
    """True D `(N, 2, S, S)` as the low network might find it `(N, 2, S / 8, S / 8)`."""
    small = small_depth(depth)
    there = (small[:, :1] <= small[:, 1:]).float()
    return emptied(torch.cat([small + _smooth_noise(small, _DEPTH_CELL) * _DEPTH_ERROR, there], 1))


def spoiled_normals(truth: Truth, alignments: Sequence[Alignment]) -> torch.Tensor:
    """True normals `(N, 6, S, S)` as those of parts might look when they are blended."""
    normals = truth.normals
    if torch.rand(()) < _BLURRED:
        normals = functional.avg_pool2d(normals, 3, 1, 1)
    normals = normals + _smooth_noise(normals, _NORMAL_CELL) * _NORMAL_ERROR * truth.mask
    found = torch.from_numpy(np.stack([covered(alignment) for alignment in alignments]))[:, None]
    return normals.clamp(min=0) * found.to(normals)


def _smooth_noise(like: torch.Tensor, cell: int) -> torch.Tensor:
    """Noise of the shape of `like` and spread about 1, alike over about `cell` pixels."""
    *_, height, width = like.shape
    coarse = torch.randn(*like.shape[:2], height // cell, width // cell, device=like.device)
    return functional.interpolate(coarse, (height, width), mode='bilinear')
