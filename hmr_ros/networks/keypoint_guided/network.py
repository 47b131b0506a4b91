# SPDX-License-Identifier: Apache-2.0
"""The whole network: crop in, keypoints, twist, shape and camera out (sheet 1.1 and 2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from hmr_ros.networks.keypoint_guided.heads import (
    CoordinateHeads, GatedAttention, KeypointTokens, MARKERS_FROM, TOKEN_WIDTH, Trunk)
from hmr_ros.networks.keypoint_guided.mgfenet import FEATURE_CHANNELS, MGFENet

KEYPOINTS = 96


class Prediction(NamedTuple):
    """
    Engine tensors of the sheet, section 1.1, N crops.

    uvd (N, 96, 3), sigma (N, 96, 3), phi (N, 23, 2), betas (N, 10), cam (N, 3),
    feature (N, 1216).
    """

    uvd: torch.Tensor
    sigma: torch.Tensor
    phi: torch.Tensor
    betas: torch.Tensor
    cam: torch.Tensor
    feature: torch.Tensor


class KeypointGuided(nn.Module):
    """MGFENet with keypoint tokens, gated attention, coordinate heads and trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MGFENet()
        self.tokens = KeypointTokens(FEATURE_CHANNELS, KEYPOINTS)
        self.attention = GatedAttention()
        self.heads = CoordinateHeads()
        self.trunk = Trunk(FEATURE_CHANNELS + TOKEN_WIDTH)

    def forward(self, image: torch.Tensor) -> Prediction:
        """Map normalised crops `(N, 3, 256, 256)` to a Prediction."""
        return self.decode(self.backbone(image))

    def decode(self, f: torch.Tensor) -> Prediction:
        """Map feature maps `(N, 960, 8, 8)` to a Prediction."""
        return self.read_out(f, self.tokens.maps(f))

    def read_out(self, f: torch.Tensor, maps: torch.Tensor) -> Prediction:
        """Map f and its keypoint maps `(N, 96, 8, 8)` to a Prediction."""
        tokens = self.attention(self.tokens(maps))
        uvd, sigma = self.heads(tokens)
        markers = tokens[:, MARKERS_FROM:].mean(1)
        pooled = torch.cat([f.float().mean((2, 3)), markers], 1)
        betas, cam, phi = self.trunk(pooled)
        return Prediction(uvd, sigma, phi, betas, cam, pooled)
