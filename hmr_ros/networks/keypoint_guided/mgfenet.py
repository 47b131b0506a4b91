# SPDX-License-Identifier: Apache-2.0
"""MGFENet, the lightweight backbone ("big_7x7" in sheet 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.keypoint_guided.spectral_filter import SpectralFilter


@dataclass(frozen=True)
class BlockConfig:
    """One row of the sheet's table; `size` is the input resolution at 256 px crops."""

    channels: int
    mid: int
    out: int
    stride: int
    activation: str
    squeeze: bool
    size: int


BLOCKS = (
    BlockConfig(16, 16, 16, 1, 'relu', False, 128),
    BlockConfig(16, 64, 24, 2, 'relu', False, 128),
    BlockConfig(24, 72, 24, 1, 'relu', False, 64),
    BlockConfig(24, 72, 40, 2, 'relu', True, 64),
    BlockConfig(40, 120, 40, 1, 'relu', True, 32),
    BlockConfig(40, 120, 40, 1, 'relu', True, 32),
    BlockConfig(40, 240, 80, 2, 'hardswish', False, 32),
    BlockConfig(80, 200, 80, 1, 'hardswish', False, 16),
    BlockConfig(80, 184, 80, 1, 'hardswish', False, 16),
    BlockConfig(80, 184, 80, 1, 'hardswish', False, 16),
    BlockConfig(80, 480, 112, 1, 'hardswish', True, 16),
    BlockConfig(112, 672, 112, 1, 'hardswish', True, 16),
    BlockConfig(112, 672, 160, 1, 'hardswish', True, 16),
    BlockConfig(160, 672, 160, 2, 'hardswish', True, 16),
    BlockConfig(160, 960, 160, 1, 'hardswish', True, 8),
)
FEATURE_CHANNELS = 960
CASCADE_CHANNELS = (3, 19, 43, 83, 243, 403)


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm, optional activation."""

    def __init__(
            self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1,
            activation: str = 'none') -> None:
        super().__init__(
            nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out), _activation(activation))


class SqueezeExcite(nn.Module):
    """Channel gate clip((t + 1) / 2, 0, 1) from the pooled map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the channels of `x`."""
        pooled = x.mean((2, 3), keepdim=True)
        return x * gate(self.expand(functional.relu(self.reduce(pooled))))


def gate(t: torch.Tensor) -> torch.Tensor:
    """Return clip((t + 1) / 2, 0, 1)."""
    return torch.clamp(0.5 * t + 0.5, 0.0, 1.0)


class Block(nn.Module):
    """Global filter, 1x1 expansion, cascade, 7x7 depth-wise, SE, 1x1 projection (sheet 2.1)."""

    def __init__(self, config: BlockConfig, cascade_channels: int) -> None:
        super().__init__()
        self.stride = config.stride
        self.residual = config.stride == 1 and config.channels == config.out
        wide = config.mid + (cascade_channels if config.stride == 1 else 0)
        self.filter = SpectralFilter(config.channels, config.size)
        self.expand = ConvNorm(config.channels, config.mid, 1, activation=config.activation)
        self.depthwise = ConvNorm(
            wide, wide, 7, config.stride, groups=wide, activation=config.activation)
        self.squeeze = SqueezeExcite(wide) if config.squeeze else nn.Identity()
        self.project = ConvNorm(wide, config.out, 1)

    def forward(self, x: torch.Tensor, cascade: torch.Tensor) -> torch.Tensor:
        """Map `x`; stride-1 blocks also read the `cascade` of the same resolution."""
        e = self.expand(self.filter(x))
        if self.stride == 1:
            e = torch.cat([e, cascade.to(e.dtype)], 1)
        y = self.project(self.squeeze(self.depthwise(e)))
        return y + x if self.residual else y


class MGFENet(nn.Module):
    """Normalised crop `(N, 3, 256, 256)` to the feature map f `(N, 960, 8, 8)`, f >= 0."""

    channels = FEATURE_CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 16, 3, 2, activation='hardswish')
        blocks, cascade = [], 3
        for config in BLOCKS:
            if config.stride == 2:
                cascade += config.channels
            blocks.append(Block(config, cascade))
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Conv2d(cascade + BLOCKS[-1].out, FEATURE_CHANNELS, 1, bias=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute f; crops of 128 or 64 px give a map of 4x4 or 2x2."""
        x, cascade = self.stem(image), pool(image)
        for block in self.blocks:
            if block.stride == 2:
                cascade = pool(torch.cat([cascade.to(x.dtype), x], 1))
            x = block(x, cascade)
        return functional.relu(self.head(torch.cat([cascade.to(x.dtype), x], 1)))


def pool(x: torch.Tensor) -> torch.Tensor:
    """Average of 3x3 with stride 2; zeros of the border are counted."""
    return functional.avg_pool2d(x, 3, 2, 1, count_include_pad=True)


def _activation(name: str) -> nn.Module:
    table = {'relu': nn.ReLU, 'hardswish': nn.Hardswish, 'none': nn.Identity}
    return table[name]()
