# SPDX-License-Identifier: Apache-2.0
"""What every network of keypoint_guided puts out."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Prediction(NamedTuple):
    """
    Engine tensors of the sheet, section 1.1, N crops; K tokens, 96 but for the ablation.

    uvd (N, K, 3), sigma (N, K, 3), phi (N, 23, 2), betas (N, 10), cam (N, 3),
    feature (N, F): 1216 with MGFENet.
    """

    uvd: torch.Tensor
    sigma: torch.Tensor
    phi: torch.Tensor
    betas: torch.Tensor
    cam: torch.Tensor
    feature: torch.Tensor
