# SPDX-License-Identifier: Apache-2.0
"""Depth of front and back at full resolution, of the low one and normals (sheet, 3.4)."""

from __future__ import annotations

import torch
from torch import nn

from hmr_ros.networks.digitizer_2k2k.blocks import double, single, up
from hmr_ros.networks.digitizer_2k2k.depth import depths, DEPTHS
from hmr_ros.networks.digitizer_2k2k.normals import NORMALS
from hmr_ros.networks.digitizer_2k2k.variants import Variant

#: first row and column, and step, at which each block sees the normals.
PYRAMID = ((1, 4), (0, 2), (0, 1))
_JOINED = 64


class DepthBlock(nn.Module):
    """Doubles a map and joins normals to it."""

    def __init__(self, channels: int, joined: int, last: nn.Module) -> None:
        """`channels` of the map, `joined` of both together; `last` maps these to the output."""
        super().__init__()
        self.depth = up(channels, joined // 2)
        self.normal = single(NORMALS, joined // 2)
        self.merge = double(joined, joined)
        self.last = last

    def forward(self, x: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` and normals `(N, 6, 2H, 2W)` to `(N, out, 2H, 2W)`."""
        return self.last(self.joined(x, normals))

    def joined(self, x: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        """Return the map that `last` reads, of the same inputs."""
        return self.merge(torch.cat([self.depth(x), self.normal(normals)], 1))


class HighDepthNet(nn.Module):
    """Three blocks, each at twice the size of the one before."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        joined = variant.channels(_JOINED)
        for number in (1, 2):
            last = nn.Sequential(nn.Conv2d(joined, joined, 1), nn.ReLU())
            setattr(self, f'block{number}', DepthBlock(2 if number == 1 else joined, joined, last))
        self.block3 = DepthBlock(joined, joined, nn.Conv2d(joined, DEPTHS, 1))

    def forward(self, pair: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        """
        Map depths `(N, 2, H, W)` and merged normals `(N, 6, 8H, 8W)` to `(N, 3, 8H, 8W)`.

        `pair` is what `emptied` gives; the result is depths D of front and back, 0 to 6, and a
        mask, which is not applied: foreground is where the front is not behind the back.
        """
        return depths(self.head(self.features(pair, normals)))

    def features(self, pair: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        """Return the map that `head` reads, of the same inputs."""
        first, second, third = (
            normals[:, :, start::step, start::step] for start, step in PYRAMID)
        return self.block3.joined(self.block2(self.block1(pair, first), second), third)

    @property
    def head(self) -> nn.Module:
        """The last layer."""
        return self.block3.last
