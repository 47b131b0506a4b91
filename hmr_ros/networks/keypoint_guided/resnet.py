# SPDX-License-Identifier: Apache-2.0
"""ResNet-34 without its classifier (He et al. 2016), a backbone of keypoint_guided."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.residual_blocks import BasicBlock, chain


class ResNet34(nn.Module):
    """Normalised crop `(N, 3, 256, 256)` to f `(N, 512, 8, 8)`, f >= 0; torchvision's names."""

    channels = 512

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = chain(BasicBlock, 64, 64, 3)
        self.layer2 = chain(BasicBlock, 64, 128, 4, stride=2)
        self.layer3 = chain(BasicBlock, 128, 256, 6, stride=2)
        self.layer4 = chain(BasicBlock, 256, 512, 3, stride=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute f."""
        x = functional.relu(self.bn1(self.conv1(image)))
        x = functional.max_pool2d(x, 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))
