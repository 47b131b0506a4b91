# SPDX-License-Identifier: Apache-2.0
"""A small ResNet with a feature pyramid, the backbone of the compact network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.residual_blocks import BasicBlock, chain
from hmr_ros.networks.resnet import ChannelPool

#: widths of the four stages: ResNet-18 at three quarters of its width.
WIDTHS = (48, 96, 192, 384)


class PyramidNet(nn.Module):
    """
    Normalised crop `(N, 3, S, S)` to fine features `(N, 128, S/8, S/8)` and coarse `(N, 384)`.

    Plain 3x3 convolutions: processors and GPUs alike run them several times closer to their peak
    than the wide depth-wise ones of MGFENet. The coarse features are means of the last stage.
    """

    channels, coarse_channels = 128, WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.maxpool = ChannelPool(WIDTHS[0])
        self.layer1 = chain(BasicBlock, WIDTHS[0], WIDTHS[0], 2)
        self.layer2 = chain(BasicBlock, WIDTHS[0], WIDTHS[1], 2, stride=2)
        self.layer3 = chain(BasicBlock, WIDTHS[1], WIDTHS[2], 2, stride=2)
        self.layer4 = chain(BasicBlock, WIDTHS[2], WIDTHS[3], 2, stride=2)
        self.rise3 = Rise(WIDTHS[3], WIDTHS[2], self.channels)
        self.rise2 = Rise(self.channels, WIDTHS[1], self.channels)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute fine and coarse features, both >= 0."""
        return self.features(image, lambda layer, x: layer(x))

    def features(
            self, image: torch.Tensor,
            through: Callable[[nn.Sequential, torch.Tensor], torch.Tensor]
            ) -> tuple[torch.Tensor, torch.Tensor]:
        """Do the same; `through` takes features through the blocks of a stage."""
        _, fine, layer4 = self.maps(image, through)
        return fine, layer4.mean((2, 3))

    def maps(
            self, image: torch.Tensor,
            through: Callable[[nn.Sequential, torch.Tensor], torch.Tensor]
            ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute the map of the first stage, fine features, and the map of the last stage."""
        x = functional.relu(self.bn1(self.conv1(image)))
        layer1 = through(self.layer1, self.maxpool(x))
        layer2 = through(self.layer2, layer1)
        layer3 = through(self.layer3, layer2)
        layer4 = through(self.layer4, layer3)
        return layer1, self.rise2(self.rise3(layer4, layer3), layer2), layer4


class Rise(nn.Module):
    """Double the resolution of `coarse` and add what `fine` knows, both as `out` channels."""

    def __init__(self, coarse: int, fine: int, out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(coarse, out, 4, 2, 1, bias=False)
        self.side = nn.Conv2d(fine, out, 1, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Map `(N, coarse, H, W)` and `(N, fine, 2H, 2W)` to `(N, out, 2H, 2W)`."""
        return functional.relu(self.norm(self.up(coarse) + self.side(fine)))
