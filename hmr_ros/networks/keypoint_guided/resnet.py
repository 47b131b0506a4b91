# SPDX-License-Identifier: Apache-2.0
"""ResNet-34 without its classifier (He et al. 2016), a backbone of keypoint_guided."""

from __future__ import annotations

import torch

from hmr_ros.networks.resnet import ResNet, RESNET34


class ResNet34(ResNet):
    """Normalised crop `(N, 3, 256, 256)` to f `(N, 512, 8, 8)`, f >= 0; torchvision's names."""

    channels = RESNET34.channels

    def __init__(self) -> None:
        super().__init__(RESNET34)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute f."""
        return self.last_map(image)
