# SPDX-License-Identifier: Apache-2.0
"""HRNet (Wang et al. 2020) as a trunk: one map per branch, tensors named as its authors do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.residual_blocks import BasicBlock, Bottleneck, chain


@dataclass(frozen=True)
class HRNetPlan:
    """
    Which HRNet.

    widths       channels of the four branches; the published ones double from branch to branch
    modules      modules of stages 2, 3 and 4
    blocks       residual blocks of a branch in each module
    stem         channels of the two first convolutions
    bottlenecks  blocks of layer1, which ends with four times `stem` channels
    last         branches that the last module gives; pose networks read one
    """

    widths: tuple[int, int, int, int]
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    stem: int = 64
    bottlenecks: int = 4
    last: int = 4


W32, W48 = HRNetPlan((32, 64, 128, 256)), HRNetPlan((48, 96, 192, 384))


class HRNet(nn.Module):
    """Normalised crop `(N, 3, H, W)` to the maps of its branches; the authors' names."""

    def __init__(self, plan: HRNetPlan) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, plan.stem, 3, 2)
        self.conv2, self.bn2 = conv_norm(plan.stem, plan.stem, 3, 2)
        self.layer1 = chain(Bottleneck, plan.stem, plan.stem, plan.bottlenecks)
        channels: tuple[int, ...] = (4 * plan.stem,)
        for stage, modules in zip((2, 3, 4), plan.modules):
            widths = plan.widths[:stage]
            # Only the last module of all may give fewer maps than it takes.
            given = [stage] * (modules - 1) + [plan.last if stage == 4 else stage]
            setattr(self, f'transition{stage - 1}', transition(channels, widths))
            setattr(self, f'stage{stage}', nn.Sequential(
                *(Exchange(widths, plan.blocks, outputs) for outputs in given)))
            channels = widths

    def maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps, that of branch b `(N, widths[b], H / 2^(b+2), W / 2^(b+2))`, >= 0."""
        x = functional.relu(self.bn1(self.conv1(image)))
        maps = [self.layer1(functional.relu(self.bn2(self.conv2(x))))]
        for stage in (2, 3, 4):
            enter = getattr(self, f'transition{stage - 1}')
            # A new branch starts from the smallest map there is.
            sources = maps + [maps[-1]] * (len(enter) - len(maps))
            maps = [path(x) for path, x in zip(enter, sources)]
            maps = getattr(self, f'stage{stage}')(maps)
        return maps


class Exchange(nn.Module):
    """One HRNet module: residual blocks in each branch, then `outputs` branches read all others."""

    def __init__(self, widths: Sequence[int], blocks: int, outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(chain(BasicBlock, width, width, blocks) for width in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._path(widths, source, to) for source in range(len(widths)))
            for to in range(outputs))

    @staticmethod
    def _path(widths: Sequence[int], source: int, to: int) -> nn.Module:
        if source == to:
            return nn.Identity()
        if source < to:
            return downward(widths[source], widths[to], to - source)
        scale = nn.Upsample(scale_factor=2 ** (source - to), mode='nearest')
        return nn.Sequential(*conv_norm(widths[source], widths[to], 1), scale)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map one map per branch, each half as large as the one before, to `outputs` of them."""
        maps = [branch(x) for branch, x in zip(self.branches, maps)]
        return [functional.relu(sum(path(x) for path, x in zip(paths, maps)))
                for paths in self.fuse_layers]


def conv_norm(channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution without bias and its batch norm."""
    return [nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(out)]


def downward(channels: int, out: int, steps: int) -> nn.Sequential:
    """`steps` 3x3 convolutions of stride 2, the last to `out` channels and without ReLU."""
    layers = [nn.Sequential(*conv_norm(channels, channels, 3, 2), nn.ReLU())
              for _ in range(steps - 1)]
    return nn.Sequential(*layers, nn.Sequential(*conv_norm(channels, out, 3, 2)))


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
