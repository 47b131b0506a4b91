# SPDX-License-Identifier: Apache-2.0
"""HRNet-W48 with its classification trunk (Wang et al. 2020), a backbone of keypoint_guided."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.residual_blocks import BasicBlock, Bottleneck, chain

WIDTHS = (48, 96, 192, 384)
HEAD_WIDTHS = (32, 64, 128, 256)


def conv_norm(channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution without bias and its batch norm."""
    return [nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(out)]


def downward(channels: int, out: int, steps: int) -> nn.Sequential:
    """`steps` 3x3 convolutions of stride 2, the last to `out` channels and without ReLU."""
    layers = [nn.Sequential(*conv_norm(channels, channels, 3, 2), nn.ReLU())
              for _ in range(steps - 1)]
    return nn.Sequential(*layers, nn.Sequential(*conv_norm(channels, out, 3, 2)))


class Exchange(nn.Module):
    """One HRNet module: four residual blocks in each branch, then every branch reads all others."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(chain(BasicBlock, width, width, 4) for width in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._path(widths, source, to) for source in range(len(widths)))
            for to in range(len(widths)))

    @staticmethod
    def _path(widths: Sequence[int], source: int, to: int) -> nn.Module:
        if source == to:
            return nn.Identity()
        if source < to:
            return downward(widths[source], widths[to], to - source)
        scale = nn.Upsample(scale_factor=2 ** (source - to), mode='nearest')
        return nn.Sequential(*conv_norm(widths[source], widths[to], 1), scale)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map one map per branch, each half as large as the one before, to as many."""
        maps = [branch(x) for branch, x in zip(self.branches, maps)]
        return [functional.relu(sum(path(x) for path, x in zip(paths, maps)))
                for paths in self.fuse_layers]


class HRNetW48(nn.Module):
    """Normalised crop `(N, 3, 256, 256)` to f `(N, 2048, 8, 8)`, f >= 0; the authors' names."""

    channels = 2048

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, 64, 3, 2)
        self.conv2, self.bn2 = conv_norm(64, 64, 3, 2)
        self.layer1 = chain(Bottleneck, 64, 64, 4)
        channels: tuple[int, ...] = (256,)
        for stage, modules in ((2, 1), (3, 4), (4, 3)):
            widths = WIDTHS[:stage]
            setattr(self, f'transition{stage - 1}', transition(channels, widths))
            setattr(self, f'stage{stage}', nn.Sequential(
                *(Exchange(widths) for _ in range(modules))))
            channels = widths
        self.incre_modules = nn.ModuleList(
            chain(Bottleneck, width, head, 1) for width, head in zip(WIDTHS, HEAD_WIDTHS))
        self.downsamp_modules = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4 * a, 4 * b, 3, 2, 1), nn.BatchNorm2d(4 * b), nn.ReLU())
            for a, b in zip(HEAD_WIDTHS, HEAD_WIDTHS[1:]))
        self.final_layer = nn.Sequential(
            nn.Conv2d(4 * HEAD_WIDTHS[-1], self.channels, 1), nn.BatchNorm2d(self.channels),
            nn.ReLU())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute f."""
        x = functional.relu(self.bn1(self.conv1(image)))
        maps = [self.layer1(functional.relu(self.bn2(self.conv2(x))))]
        for stage in (2, 3, 4):
            enter = getattr(self, f'transition{stage - 1}')
            # A new branch starts from the smallest map there is.
            sources = maps + [maps[-1]] * (len(enter) - len(maps))
            maps = [path(x) for path, x in zip(enter, sources)]
            maps = getattr(self, f'stage{stage}')(maps)
        y = self.incre_modules[0](maps[0])
        for smaller, widen, down in zip(maps[1:], self.incre_modules[1:], self.downsamp_modules):
            y = widen(smaller) + down(y)
        return self.final_layer(y)


def transition(channels: Sequence[int], widths: Sequence[int]) -> nn.ModuleList:
    """Paths from the branches of one stage to those of the next, which has one more."""
    paths: list[nn.Module] = []
    for i, width in enumerate(widths):
        if i >= len(channels):
            paths.append(nn.Sequential(
                nn.Sequential(*conv_norm(channels[-1], width, 3, 2), nn.ReLU())))
        elif channels[i] != width:
            paths.append(nn.Sequential(*conv_norm(channels[i], width, 3), nn.ReLU()))
        else:
            paths.append(nn.Identity())
    return nn.ModuleList(paths)
