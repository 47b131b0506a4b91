# SPDX-License-Identifier: Apache-2.0
"""Binary ResNets, named as the plain ones are (sheet, section 2.3)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.bidrn.binarization import BinaryConv2d, ShiftedPReLU
from hmr_ros.networks.bidrn.residuals import (
    dense, FUSION_DOWN, FusionDown, kind_of, LocalResidual, STEPPED)
from hmr_ros.networks.bidrn.variants import Variant
from hmr_ros.networks.residual_blocks import Bottleneck
from hmr_ros.networks.resnet import ResNetPlan


def unit(channels: int, out: int, kernel: int, stride: int, variant: Variant) -> BinaryConv2d:
    """Build the module that takes the place of one convolution of a ResNet."""
    kind = kind_of(channels, out, stride)
    if kind not in variant.residuals:
        return dense(variant.method, channels, out, kernel, stride)
    if kind == FUSION_DOWN:
        return FusionDown(channels, out, kernel)
    return LocalResidual(channels, out, kernel, stride)


class BinaryBlock(nn.Module):
    """BiDRB: modules `conv1`, `conv2`, ... with a norm each, around a shortcut; no ReLU at all."""

    def __init__(
            self, channels: int, plan: tuple[tuple[int, int, int], ...],
            variant: Variant) -> None:
        """`plan` has (out, kernel, stride) of each module."""
        super().__init__()
        self.count, entered = len(plan), channels
        for number, (out, kernel, stride) in enumerate(plan, start=1):
            setattr(self, f'conv{number}', unit(channels, out, kernel, stride, variant))
            setattr(self, f'bn{number}', nn.BatchNorm2d(out))
            if variant.method == 'react' and kernel == 3:
                setattr(self, f'act{number}', ShiftedPReLU(out))
            channels = out
        stride = max(stride for _, _, stride in plan)
        self.downsample = _shortcut(entered, channels, stride, variant)
        self._clips = variant.identity == 'clipped' or not isinstance(
            self.downsample, nn.Identity)
        self._joined, self._stepped = _steps(plan, variant)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`, not clipped."""
        y = x
        for number in range(1, self.count + 1):
            found = getattr(self, f'bn{number}')(getattr(self, f'conv{number}')(y))
            if number == self._joined and self.downsample is not None:
                found = found + self.downsample(functional.hardtanh(x) if self._clips else x)
            if number in self._stepped:
                found = found + y
            act = getattr(self, f'act{number}', None)
            y = found if act is None else act(found)
        return y


def _steps(
        plan: tuple[tuple[int, int, int], ...], variant: Variant) -> tuple[int, tuple[int, ...]]:
    """
    Say behind which module the block's shortcut ends, and which have an identity of their own.

    Bi-Real Net and ReActNet go around single convolutions; of a basic block the shortcut is that of
    the first one.
    """
    if variant.method not in STEPPED:
        return len(plan), ()
    if plan[0][1] == 3:
        return 1, tuple(range(2, len(plan) + 1))
    return len(plan), tuple(
        number for number, (_, kernel, stride) in enumerate(plan, start=1)
        if (kernel, stride) == (3, 1))


def _shortcut(channels: int, out: int, stride: int, variant: Variant) -> nn.Module | None:
    """BR of the paper; None where nothing goes around the block."""
    if stride == 1 and channels == out:
        return nn.Identity()
    if variant.shortcut == 'none':
        return None
    if variant.shortcut_pool == 'average' and stride == 2:
        return nn.Sequential(nn.AvgPool2d(2), *_projection(channels, out, 1, variant))
    return nn.Sequential(*_projection(channels, out, stride, variant))


def _projection(channels: int, out: int, stride: int, variant: Variant) -> list[nn.Module]:
    if variant.shortcut == 'binary':
        return [dense(variant.method, channels, out, 1, stride), nn.BatchNorm2d(out)]
    return [nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)]


class BinaryResNet(nn.Module):
    """
    ResNet of binary blocks behind a stem of floats.

    The stem has no ReLU, or the first signs would all be +1.
    """

    def __init__(self, plan: ResNetPlan, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        channels = plan.widths[0]
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for stage, (width, count, enter) in enumerate(
                zip(plan.widths, plan.counts, plan.strides), start=1):
            blocks = []
            for number in range(count):
                stride = 1 if number else enter
                blocks.append(BinaryBlock(channels, _modules(plan, width, stride), variant))
                channels = width * plan.block.expansion
            setattr(self, f'layer{stage}', nn.Sequential(*blocks))

    def last_map(self, image: torch.Tensor) -> torch.Tensor:
        """Map pictures `(N, 3, H, W)` to `(N, channels, H / s, W / s)` of either sign."""
        x = self.maxpool(self.bn1(self.conv1(image)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x


def _modules(plan: ResNetPlan, width: int, stride: int) -> tuple[tuple[int, int, int], ...]:
    """Give (out, kernel, stride) of the modules of one block."""
    if plan.block is Bottleneck:
        return (width, 1, 1), (width, 3, stride), (4 * width, 1, 1)
    return (width, 3, stride), (width, 3, 1)
