# SPDX-License-Identifier: Apache-2.0
"""One-bit activations and weights, and how gradients pass them (sheet, section 2.1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def signs(x: torch.Tensor) -> torch.Tensor:
    """+1 where `x` >= 0, both zeros included, else -1; ONNX's and torch's own give 0 at 0."""
    # A tenth of the time of torch.where; -0.0 + 0.0 is 0.0.
    return torch.copysign(x.new_ones(()), x + 0.0)


class _Bit(torch.autograd.Function):
    """Signs forward; what they let back, subclasses say."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return signs(x)

    @staticmethod
    def symbolic(graph: Any, x: torch.Value) -> torch.Value:
        """Say it to ONNX without its Sign, which is 0 at 0."""
        zero, one = (torch.tensor(value) for value in (0.0, 1.0))
        known = graph.op('GreaterOrEqual', x, graph.op('Constant', value_t=zero))
        return graph.op('Where', known, *(graph.op('Constant', value_t=v) for v in (one, -one)))


class _QuadraticBit(_Bit):
    """Backward the derivative of the piecewise quadratic that approaches the sign."""

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return grad * (2 - 2 * x.abs()).clamp(min=0)


class _ClippedBit(_Bit):
    """Backward straight through where |x| <= 1."""

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


#: bits of activations and of weights, which differ in how gradients pass.
activation_bits = _QuadraticBit.apply
weight_bits = clipped_bits = _ClippedBit.apply


def weight_scale(weight: torch.Tensor) -> torch.Tensor:
    """Mean absolute weight of each output channel (the first axis), kept as axes of length 1."""
    return weight.detach().abs().mean(tuple(range(1, weight.dim())), keepdim=True)


def binary_weight(
        weight: torch.Tensor, scale: torch.Tensor | float | None = None) -> torch.Tensor:
    """
    Signs times the scale of each output channel; no gradient where |weight| > 1.

    scale  in the place of `weight_scale`
    """
    # What is exported holds them already, see training/bidrn/export.py.
    if torch.onnx.is_in_onnx_export():
        return weight
    return (weight_scale(weight) if scale is None else scale) * weight_bits(weight)


class ShiftedPReLU(nn.Module):
    """RPReLU: a PReLU whose input and output are shifted, all per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.full((channels,), 0.25))
        self.zeta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to the same shape."""
        gamma, zeta = (p[:, None, None] for p in (self.gamma, self.zeta))
        return functional.prelu(x - gamma, self.beta) + zeta


class BinaryConv2d(nn.Conv2d):
    """
    Convolution of bits with bits, times the scale of each output channel; no bias.

    `weight` holds the latent weights in their dense shape. Padding is 0, after the signs.
    """

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, kernel // 2, bias=False)

    def binary(self) -> torch.Tensor:
        """Weights `(out, channels, k, k)` as they are used: each channel's of one size."""
        return binary_weight(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)`, of which the signs count, to `(N, out, H', W')`."""
        return functional.conv2d(
            activation_bits(x), self.binary(), None, self.stride, self.padding)


class BinaryDeconv2d(nn.ConvTranspose2d):
    """Transposed 4x4 convolution of stride 2 of bits with bits; otherwise as BinaryConv2d."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 4, 2, 1, bias=False)

    def binary(self) -> torch.Tensor:
        """Weights `(channels, out, 4, 4)` as they are used."""
        # The first axis of its weights is the input's.
        return binary_weight(self.weight.transpose(0, 1)).transpose(0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, 2 H, 2 W)`; clips what it reads to +-1."""
        bits = activation_bits(functional.hardtanh(x))
        return functional.conv_transpose2d(bits, self.binary(), None, self.stride, self.padding)


class BinaryLinear(nn.Linear):
    """Product of bits with bits, times the scale of each output, plus a bias."""

    def binary(self) -> torch.Tensor:
        """Weights `(out_features, in_features)` as they are used."""
        return binary_weight(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, in_features)` to `(N, out_features)`; clips what it reads to +-1."""
        bits = activation_bits(functional.hardtanh(x))
        return functional.linear(bits, self.binary(), self.bias)


BINARY_LAYERS = (BinaryConv2d, BinaryDeconv2d, BinaryLinear)
