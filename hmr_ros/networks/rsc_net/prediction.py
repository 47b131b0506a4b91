# SPDX-License-Identifier: Apache-2.0
"""What the networks of rsc_net put out (sheet, section 1.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch

POSE_WIDTH, BETAS_WIDTH, CAMERA_WIDTH = 144, 10, 3
WIDTHS = (POSE_WIDTH, BETAS_WIDTH, CAMERA_WIDTH)
#: width of the regressor's state [pose6d | betas | cam].
STATE_WIDTH = sum(WIDTHS)
#: of the published backbone.
FEATURES = 2048


class Body(NamedTuple):
    """
    One body per sample, any number of leading axes.

    pose6d (..., 144) 24 joints, the first two columns of each rotation, row by row;
    betas (..., 10); cam (..., 3) weak perspective s, tx, ty.
    """

    pose6d: torch.Tensor
    betas: torch.Tensor
    cam: torch.Tensor


class Prediction(NamedTuple):
    """Body of N crops as above, and their feature (N, F); as published (N, 2048), >= 0."""

    pose6d: torch.Tensor
    betas: torch.Tensor
    cam: torch.Tensor
    feature: torch.Tensor


class TemporalPrediction(NamedTuple):
    """Body of N tracks as above, and the state (2, N, hidden) to pass to the next frame."""

    pose6d: torch.Tensor
    betas: torch.Tensor
    cam: torch.Tensor
    h_out: torch.Tensor
