# SPDX-License-Identifier: Apache-2.0
"""ResNet (He et al. 2016) as a trunk: everything before its mean; torchvision's names."""

from __future__ import annotations

from dataclasses import dataclass
import math

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.residual_blocks import BasicBlock, Bottleneck, chain


@dataclass(frozen=True)
class ResNetPlan:
    """
    Which ResNet.

    block   kind of its residual blocks
    counts  blocks of the four stages
    widths  their widths, before a bottleneck's expansion
    stem    seven: 7x7 of stride 2 and a max pool; cifar: 3x3 of stride 1 alone
    last    stride of the last stage: 2, or 1 for maps of twice the size
    """

    block: type[BasicBlock] | type[Bottleneck]
    counts: tuple[int, int, int, int]
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    stem: str = 'seven'
    last: int = 2

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Strides of the four stages."""
        return 1, 2, 2, self.last

    @property
    def stride(self) -> int:
        """Pixels of the picture to one of the last map."""
        return (1 if self.stem == 'cifar' else 4) * math.prod(self.strides)

    @property
    def channels(self) -> int:
        """Channels of the last stage."""
        return self.widths[-1] * self.block.expansion


RESNET18 = ResNetPlan(BasicBlock, (2, 2, 2, 2))
RESNET34 = ResNetPlan(BasicBlock, (3, 4, 6, 3))
RESNET50 = ResNetPlan(Bottleneck, (3, 4, 6, 3))


class ChannelPool(nn.MaxPool2d):
    """The max pool behind the stem; it knows its channels, so that another layer can replace it."""

    def __init__(self, channels: int) -> None:
        super().__init__(3, 2, 1)
        self.channels = channels


class ResNet(nn.Module):
    """Normalised picture `(N, 3, H, W)` to the map of the last stage."""

    def __init__(self, plan: ResNetPlan) -> None:
        super().__init__()
        width, out = plan.widths[0], plan.widths[0] * plan.block.expansion
        if plan.stem == 'cifar':
            self.conv1: nn.Module = nn.Conv2d(3, width, 3, 1, 1, bias=False)
            pool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
            pool = ChannelPool(width)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = pool
        self.layer1 = chain(plan.block, width, width, plan.counts[0])
        for stage, (width, count, stride) in enumerate(
                zip(plan.widths[1:], plan.counts[1:], plan.strides[1:]), start=2):
            setattr(self, f'layer{stage}', chain(plan.block, out, width, count, stride))
            out = width * plan.block.expansion

    @property
    def layers(self) -> tuple[nn.Sequential, ...]:
        """The four stages."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def stem(self, image: torch.Tensor) -> torch.Tensor:
        """Map pictures to the input of the first stage, >= 0."""
        return self.maxpool(functional.relu(self.bn1(self.conv1(image))))

    def last_map(self, image: torch.Tensor) -> torch.Tensor:
        """Map pictures to `(N, channels, H / 32, W / 32)`, >= 0; H / 8 with the stem cifar."""
        x = self.stem(image)
        for layer in self.layers:
            x = layer(x)
        return x
