# SPDX-License-Identifier: Apache-2.0
"""The whole network: crop in, keypoints, twist, shape and camera out (sheet 1.1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from hmr_ros.networks.keypoint_guided.heads import (
    CoordinateHeads, GatedAttention, KeypointTokens, MARKERS_FROM, TOKEN_WIDTH, Trunk)
from hmr_ros.networks.keypoint_guided.hrnet import HRNetW48
from hmr_ros.networks.keypoint_guided.mgfenet import MGFENet
from hmr_ros.networks.keypoint_guided.prediction import Prediction
from hmr_ros.networks.keypoint_guided.resnet import ResNet34

KEYPOINTS = 96
#: the backbones of Table II, by name; each maps crops `(N, 3, 256, 256)` to f `(N, C, 8, 8)`.
BACKBONES: dict[str, type[nn.Module]] = {
    'mgfenet': MGFENet, 'resnet34': ResNet34, 'hrnet_w48': HRNetW48}


@dataclass(frozen=True)
class Variant:
    """
    Which of the published networks.

    backbone  a name of BACKBONES
    tokens    96 keypoints, or the 29 joints and leaves only (ablation of Table V)
    """

    backbone: str = 'mgfenet'
    tokens: int = KEYPOINTS


class KeypointGuided(nn.Module):
    """Backbone with keypoint tokens, gated attention, coordinate heads and trunk."""

    image_size = 256

    def __init__(self, variant: Variant = Variant()) -> None:
        super().__init__()
        self.backbone = BACKBONES[variant.backbone]()
        channels = self.backbone.channels
        self.tokens = KeypointTokens(channels, variant.tokens)
        self.attention = GatedAttention()
        self.heads = CoordinateHeads()
        markers = variant.tokens > MARKERS_FROM
        self.trunk = Trunk(channels + TOKEN_WIDTH if markers else channels)

    @property
    def keypoints(self) -> int:
        """How many keypoints it predicts."""
        return self.tokens.conv.out_channels

    @property
    def feature_width(self) -> int:
        """Length of the pooled feature vector."""
        return self.trunk.fc1.in_features

    def forward(self, image: torch.Tensor) -> Prediction:
        """Map normalised crops `(N, 3, 256, 256)` to a Prediction."""
        return self.decode(self.backbone(image))

    def decode(self, f: torch.Tensor) -> Prediction:
        """Map feature maps `(N, C, 8, 8)` to a Prediction."""
        return self.read_out(f, self.tokens.maps(f))

    def read_out(self, f: torch.Tensor, maps: torch.Tensor) -> Prediction:
        """Map f and its keypoint maps `(N, K, 8, 8)` to a Prediction."""
        tokens = self.attention(self.tokens(maps))
        uvd, sigma = self.heads(tokens)
        pooled = f.float().mean((2, 3))
        if tokens.shape[1] > MARKERS_FROM:
            # Sheet 2.4: shape, camera and twist see the markers; the ablation has none.
            pooled = torch.cat([pooled, tokens[:, MARKERS_FROM:].mean(1)], 1)
        betas, cam, phi = self.trunk(pooled)
        return Prediction(uvd, sigma, phi, betas, cam, pooled)
