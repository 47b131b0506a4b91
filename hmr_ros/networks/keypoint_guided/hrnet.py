# SPDX-License-Identifier: Apache-2.0
"""HRNet-W48 with its classification trunk (Wang et al. 2020), a backbone of keypoint_guided."""

from __future__ import annotations

import torch
from torch import nn

from hmr_ros.networks.hrnet import HRNet, W48
from hmr_ros.networks.residual_blocks import Bottleneck, chain

HEAD_WIDTHS = (32, 64, 128, 256)


class HRNetW48(HRNet):
    """Normalised crop `(N, 3, 256, 256)` to f `(N, 2048, 8, 8)`, f >= 0; the authors' names."""

    channels = 2048

    def __init__(self) -> None:
        super().__init__(W48)
        self.incre_modules = nn.ModuleList(
            chain(Bottleneck, width, head, 1) for width, head in zip(W48.widths, HEAD_WIDTHS))
        self.downsamp_modules = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4 * a, 4 * b, 3, 2, 1), nn.BatchNorm2d(4 * b), nn.ReLU())
            for a, b in zip(HEAD_WIDTHS, HEAD_WIDTHS[1:]))
        self.final_layer = nn.Sequential(
            nn.Conv2d(4 * HEAD_WIDTHS[-1], self.channels, 1), nn.BatchNorm2d(self.channels),
            nn.ReLU())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute f."""
        maps = self.maps(image)
        y = self.incre_modules[0](maps[0])
        for smaller, widen, down in zip(maps[1:], self.incre_modules[1:], self.downsamp_modules):
            y = widen(smaller) + down(y)
        return self.final_layer(y)
