# SPDX-License-Identifier: Apache-2.0
"""Blocks that all networks of the digitizer share (sheet, section 3)."""

from __future__ import annotations

import torch
from torch import nn


def single(channels: int, out: int) -> nn.Sequential:
    """Convolution of 3x3, norm, ReLU."""
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())


def double(channels: int, out: int) -> nn.Sequential:
    """`single` twice."""
    return nn.Sequential(*single(channels, out), *single(out, out))


def up(channels: int, out: int) -> nn.Sequential:
    """Twice the size, nearest neighbours, then `single`."""
    return nn.Sequential(nn.Upsample(scale_factor=2), *single(channels, out))


def _weighing(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 1), nn.BatchNorm2d(out))


class Gate(nn.Module):
    """Attention gate: one weight for each pixel of a skip connection, from it and the decoder."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.gating = _weighing(channels, inner)
        self.skip = _weighing(channels, inner)
        self.score = _weighing(inner, 1)

    def forward(self, gating: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Weigh `skip` `(N, channels, H, W)` by what `gating`, of the same shape, says."""
        heard = torch.relu(self.gating(gating) + self.skip(skip))
        return skip * torch.sigmoid(self.score(heard))


class Decoder(nn.Module):
    """
    From the deepest map up to the first, each level gated into the next.

    Levels count from 1, the finest. Modules `up{n}`, `gate{n}`, `decoder{n}` lead to level n - 1.
    """

    def __init__(self, deepest: int, skips: tuple[int, ...]) -> None:
        """`deepest` are the channels of the lowest map, `skips` those of the levels, 1 first."""
        super().__init__()
        self.levels, below = len(skips), deepest
        for level in range(self.levels + 1, 1, -1):
            out = skips[level - 2]
            setattr(self, f'up{level}', up(below, out))
            setattr(self, f'gate{level}', Gate(out, out // 2))
            setattr(self, f'decoder{level}', double(2 * out, out))
            below = out

    def decode(self, deepest: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """Map the lowest map and those of the levels, 1 first, to one of level 1."""
        x = deepest
        for level in range(self.levels + 1, 1, -1):
            x = getattr(self, f'up{level}')(x)
            gated = getattr(self, f'gate{level}')(x, skips[level - 2])
            x = getattr(self, f'decoder{level}')(torch.cat([gated, x], 1))
        return x


def encoder_of(channels: int, widths: tuple[int, ...]) -> list[nn.Sequential]:
    """Return a `double` for each level; `encode` halves the map between them."""
    return [double(below, out) for below, out in zip((channels, *widths), widths)]


def encode(image: torch.Tensor, levels: list[nn.Module]) -> list[torch.Tensor]:
    """Return the map `(N, C, H / 2^n, W / 2^n)` of every level, the finest first."""
    maps = []
    for number, level in enumerate(levels):
        image = level(nn.functional.max_pool2d(image, 2) if number else image)
        maps.append(image)
    return maps
