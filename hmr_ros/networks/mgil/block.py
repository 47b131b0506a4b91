# SPDX-License-Identifier: Apache-2.0
"""Layers that halve a map: the lossless block and what it is compared with (sheet, section 2)."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

Activation = type[nn.Module]
#: dilation rates of the parallel convolutions.
RATES = (1, 2, 3)


def space_to_channel(x: torch.Tensor) -> torch.Tensor:
    """
    Rearrange `(N, C, H, W)` to `(N, 4C, H/2, W/2)`, H and W even, losing nothing.

    Channel q C + c holds the pixels of offset (row, column) = (0,0), (1,0), (0,1), (1,1) for q = 0
    to 3: neither pixel_unshuffle's order nor that of ONNX's SpaceToDepth.
    """
    return torch.cat([x[..., 0::2, 0::2], x[..., 1::2, 0::2],
                      x[..., 0::2, 1::2], x[..., 1::2, 1::2]], 1)


def channel_to_space(x: torch.Tensor) -> torch.Tensor:
    """Undo `space_to_channel`: `(N, 4C, H, W)` to `(N, C, 2H, 2W)`."""
    count, channels, height, width = x.shape
    # Axes column, row, channel: q counts rows first.
    parts = x.reshape(count, 2, 2, channels // 4, height, width)
    return parts.permute(0, 3, 4, 2, 5, 1).reshape(count, channels // 4, 2 * height, 2 * width)


class SpaceToChannel(nn.Module):
    """See `space_to_channel`; maps of odd size get a row or column of zeros below or right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, C, H, W)` to `(N, 4C, ceil(H/2), ceil(W/2))`."""
        height, width = x.shape[-2:]
        if height % 2 or width % 2:
            x = functional.pad(x, (0, width % 2, 0, height % 2))
        return space_to_channel(x)


class ConvNorm(nn.Module):
    """3x3 convolution without bias, batch norm and activation."""

    def __init__(
            self, channels: int, out: int, activation: Activation, stride: int = 1,
            rate: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, stride, rate, dilation=rate, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.act = activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H, W)`, or a `stride`-th of it."""
        return self.act(self.bn(self.conv(x)))


def extraction(channels: int, out: int, count: int, activation: Activation) -> nn.Sequential:
    """LIE of the paper: `count` convolutions, of which the first changes the channels."""
    return nn.Sequential(*(
        ConvNorm(out if i else channels, out, activation) for i in range(count)))


class MultiRate(nn.ModuleList):
    """MRIE of the paper: convolutions of rates 1, 2 and 3 beside each other, joined."""

    def __init__(self, channels: int, activation: Activation) -> None:
        quarter = channels // 4
        widths = (channels - 2 * quarter, quarter, quarter)
        super().__init__(ConvNorm(channels, width, activation, rate=rate)
                         for width, rate in zip(widths, RATES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to the same shape."""
        return torch.cat([branch(x) for branch in self], 1)


def gate_kernel(channels: int) -> int:
    """Width of the gate's convolution over `channels` means, by ECA's rule."""
    width = math.floor((math.log2(channels) + 1) / 2)
    return width if width % 2 else width + 1


class Gate(nn.Module):
    """
    MGAF of the paper: how much of the fine and of the coarse map goes on, per picture.

    form  eca: one kernel over the channel axis; pointwise: a matrix from 2 C means to C

    Starts at one half each with nearly every ReLU alive: means of ReLU outputs are positive, so a
    kernel of random sign would start dead in a fifth of the blocks.
    """

    def __init__(self, channels: int, form: str) -> None:
        super().__init__()
        means = 2 * channels
        if form == 'eca':
            kernel = gate_kernel(means)
            self.conv = nn.Conv2d(1, 1, (1, kernel), padding=(0, kernel // 2), bias=False)
            nn.init.constant_(self.conv.weight, 1 / kernel)
            self.fc = nn.Linear(means, 2)
        else:
            self.conv = nn.Conv2d(means, channels, 1)
            self.fc = nn.Linear(channels, 2)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """Weights `(N, 2)`, >= 0 and of sum 1, of two maps `(N, C, H, W)`."""
        return functional.softmax(self.fc(self.seen(fine, coarse)), 1)

    def seen(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """Return what the last layer reads, `(N, 2C)` or `(N, C)`, >= 0."""
        means = torch.cat([fine.mean((2, 3), True), coarse.mean((2, 3), True)], 1)
        if self.conv.in_channels == 1:
            means = means.transpose(1, 3)
        return functional.relu(self.conv(means)).flatten(1)


class Lossless(nn.Module):
    """
    MGIL of the paper: `(N, C, H, W)` to `(N, out, ceil(H/2), ceil(W/2))`.

    Without `coarse` layers the result is the fine map alone; without a `gate` form it is the sum of
    fine and coarse.
    """

    def __init__(
            self, channels: int, out: int, activation: Activation, fine: int, coarse: int,
            gate: str | None) -> None:
        super().__init__()
        self.sct: nn.Module = SpaceToChannel()
        self.flie = extraction(4 * channels, out, fine, activation)
        self.mrie = MultiRate(out, activation) if coarse else None
        self.cii = extraction(out, out, coarse, activation) if coarse else None
        self.mgaf = Gate(out, gate) if coarse and gate else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute it."""
        fine = self.flie(self.sct(x))
        if self.cii is None:
            return fine
        coarse = self.cii(self.mrie(fine))
        if self.mgaf is None:
            return fine + coarse
        first, second = self.mgaf(fine, coarse).reshape(-1, 2, 1, 1).split(1, 1)
        return first * fine + second * coarse


class SpaceToChannelConv(nn.Module):
    """SPD-Conv: the rearrangement and one plain convolution, which the host's norm follows."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.sct = SpaceToChannel()
        self.conv = nn.Conv2d(4 * channels, out, 3, 1, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, ceil(H/2), ceil(W/2))`."""
        return self.conv(self.sct(x))


class DepthControl(nn.Module):
    """
    As deep as the lossless block, but plain: a strided convolution and `fine` - 1 more give F.

    The result is F + G(F), where G is 1 + `coarse` convolutions. What this does as well as the
    block is owed to depth, not to losing nothing.
    """

    def __init__(
            self, channels: int, out: int, activation: Activation, fine: int, coarse: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            ConvNorm(channels, out, activation, stride=2),
            *extraction(out, out, fine - 1, activation))
        self.coarse = extraction(out, out, 1 + coarse, activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, ceil(H/2), ceil(W/2))`."""
        fine = self.fine(x)
        return fine + self.coarse(fine)
