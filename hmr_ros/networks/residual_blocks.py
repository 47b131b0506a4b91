# SPDX-License-Identifier: Apache-2.0
"""Residual blocks of ResNet and HRNet, named as their published checkpoints name them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; `last` ends what is added to it."""

    expansion, last = 1, 'conv2'

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(channels, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` `(N, channels, H, W)` to `(N, width, H / stride, W / stride)`."""
        return functional.relu(self.residual(x) + self.downsample(x))

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the block adds to its shortcut, before the last activation."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y))


class Bottleneck(nn.Module):
    """1x1 to `width`, 3x3, 1x1 to four times `width`, around a shortcut; `last` as above."""

    expansion, last = 4, 'conv3'

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(channels, 4 * width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `x` `(N, channels, H, W)` to `(N, 4 width, H / stride, W / stride)`."""
        return functional.relu(self.residual(x) + self.downsample(x))

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the block adds to its shortcut, before the last activation."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return self.bn3(self.conv3(y))


def shortcut(channels: int, out: int, stride: int) -> nn.Module:
    """Identity, or 1x1 convolution and batch norm where size or channels change."""
    if stride == 1 and channels == out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


def chain(
        block: type[BasicBlock] | type[Bottleneck], channels: int, width: int, count: int,
        stride: int = 1) -> nn.Sequential:
    """`count` blocks in a row; the first one changes channels and size."""
    out = width * block.expansion
    return nn.Sequential(
        block(channels, width, stride), *(block(out, width) for _ in range(count - 1)))
