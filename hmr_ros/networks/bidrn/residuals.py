# SPDX-License-Identifier: Apache-2.0
"""
Local convolution residuals: binary convolutions with a shortcut of their own (sheet, section 2.2).

All keep their latent weights in the dense shape of the layer they stand for, so weights of a plain
ResNet fit; what the paper draws as r parallel convolutions is one dense or one grouped one.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from hmr_ros.networks.bidrn.binarization import (
    activation_bits, binary_weight, BinaryConv2d, ShiftedPReLU)

#: modules by what they do to channels and size.
BASE, DOWN_SCALE, FUSION_UP, FUSION_DOWN, DOWN_SAMPLE = KINDS = (
    'base', 'down_scale', 'fusion_up', 'fusion_down', 'down_sample')


def kind_of(channels: int, out: int, stride: int) -> str:
    """Which module takes the place of a convolution."""
    if out < channels:
        return FUSION_DOWN
    if out > channels:
        return DOWN_SAMPLE if stride == 2 else FUSION_UP
    return DOWN_SCALE if stride == 2 else BASE


class LocalResidual(BinaryConv2d):
    """Base, DScR, FUR and DSaR of the paper: R(B(a)) + tiled a, halved first with stride 2."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, out, kernel, stride)
        self.act = ShiftedPReLU(out)
        self._copies = out // channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`."""
        clipped = functional.hardtanh(x)
        kept = functional.avg_pool2d(clipped, 2) if self.stride[0] == 2 else clipped
        return self.act(super().forward(clipped)) + kept.repeat(1, self._copies, 1, 1)


class FusionDown(BinaryConv2d):
    """FDR of the paper: r chunks of the channels, each convolved and kept, then added."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__(channels, out, kernel)
        self.branches = channels // out
        self.act = ShiftedPReLU(channels)

    def grouped(self) -> torch.Tensor:
        """Latent weights `(channels, out, k, k)` of the grouped convolution: branch by branch."""
        return self.weight.unflatten(1, (self.branches, -1)).transpose(0, 1).flatten(0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H, W)`."""
        clipped = functional.hardtanh(x)
        # Each branch has scales of its own, for it is a convolution of its own.
        found = functional.conv2d(
            activation_bits(clipped), binary_weight(self.grouped()), None, 1, self.padding,
            groups=self.branches)
        return (self.act(found) + clipped).unflatten(1, (self.branches, -1)).sum(1)


class PlainBinary(BinaryConv2d):
    """What a module of the paper is compared with: the dense binary convolution alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`."""
        return super().forward(functional.hardtanh(x))
