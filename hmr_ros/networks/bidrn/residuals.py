# SPDX-License-Identifier: Apache-2.0
"""
Local convolution residuals: binary convolutions with a shortcut of their own (sheet, section 2.2).

All keep their latent weights in the dense shape of the layer they stand for, so weights of a plain
ResNet fit; what the paper draws as r parallel convolutions is one dense or one grouped one.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.bidrn.binarization import (
    activation_bits, binary_weight, BinaryConv2d, clipped_bits, ShiftedPReLU)

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
        tiled = torch.cat([kept] * self._copies, 1) if self._copies > 1 else kept
        return self.act(super().forward(clipped)) + tiled


class FusionDown(BinaryConv2d):
    """FDR of the paper: r chunks of the channels, each convolved and kept, then added."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__(channels, out, kernel)
        self.branches = channels // out
        self.act = ShiftedPReLU(channels)

    def grouped(self) -> torch.Tensor:
        """Latent weights `(channels, out, k, k)` of the grouped convolution: branch by branch."""
        return self.weight.unflatten(1, (self.branches, -1)).transpose(0, 1).flatten(0, 1)

    def binary(self) -> torch.Tensor:
        """Weights `(channels, out, k, k)` as they are used: grouped."""
        # What is exported holds them already.
        if torch.onnx.is_in_onnx_export():
            return self.weight
        # Each branch has scales of its own, for it is a convolution of its own.
        return binary_weight(self.grouped())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H, W)`."""
        clipped = functional.hardtanh(x)
        found = functional.conv2d(
            activation_bits(clipped), self.binary(), None, 1, self.padding,
            groups=self.branches)
        return (self.act(found) + clipped).unflatten(1, (self.branches, -1)).sum(1)


class PlainBinary(BinaryConv2d):
    """
    What a module of the paper is compared with: the dense binary convolution alone.

    Bi-Real Net's (Liu et al. 2018), too: its gradient of signs is the quadratic one.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`."""
        return super().forward(functional.hardtanh(x))


class SignsAlone(BinaryConv2d):
    """BNN's (Courbariaux et al. 2016): no scale; gradients pass straight where |x| <= 1."""

    def binary(self) -> torch.Tensor:
        """Weights `(out, channels, k, k)` of +-1."""
        return binary_weight(self.weight, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`."""
        return functional.conv2d(
            clipped_bits(x), self.binary(), None, self.stride, self.padding)


class ScaledBoth(SignsAlone):
    """XNOR-Net's (Rastegari et al. 2016): scaled by the means of weights and of what is read."""

    def binary(self) -> torch.Tensor:
        """Weights `(out, channels, k, k)` as they are used; their scale is taught, too."""
        return binary_weight(self.weight, self.weight.abs().mean((1, 2, 3), keepdim=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`."""
        found = super().forward(x)
        size = functional.avg_pool2d(
            x.abs().mean(1, keepdim=True), self.kernel_size, self.stride, self.padding)
        return size * found


class ShiftedBinary(PlainBinary):
    """ReActNet's (Liu et al. 2020): signs around a learned level of each channel (RSign)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, out, kernel, stride)
        self.level = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`."""
        return super().forward(x - self.level[:, None, None])


#: dense convolutions by whose rules they follow.
METHODS: dict[str, type[BinaryConv2d]] = {
    'bidrn': PlainBinary, 'bnn': SignsAlone, 'xnor': ScaledBoth, 'bireal': PlainBinary,
    'react': ShiftedBinary}
#: those with an identity around each 3x3 convolution that keeps the shape.
STEPPED = ('bireal', 'react')


def dense(method: str, channels: int, out: int, kernel: int, stride: int) -> BinaryConv2d:
    """Build a dense binary convolution; levels are learned for 3x3 ones, as the counts say."""
    kind = PlainBinary if method == 'react' and kernel == 1 else METHODS[method]
    return kind(channels, out, kernel, stride)
