# SPDX-License-Identifier: Apache-2.0
"""Kernels of a strided network as the first ones of layers in their place (sheet, section 3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.mgil.block import (
    DepthControl, Lossless, space_to_channel, SpaceToChannelConv)

State = dict[str, torch.Tensor]
#: where a layer has the convolution that halves the map, by its kind.
_FIRST: dict[type[nn.Module], str] = {
    SpaceToChannelConv: 'conv.weight', Lossless: 'flie.0.conv.weight',
    DepthControl: 'fine.0.conv.weight'}


def embedded_kernel(kernel: torch.Tensor) -> torch.Tensor:
    """
    Kernel `(O, 4C, 3, 3)` that does behind `space_to_channel` what a strided one does.

    kernel (O, C, 3, 3), of stride 2 and padding 1: of the 6x6 taps that the result stands for, it
    is those of rows and columns 1 to 3; the others are 0. Of a (O, C, 7, 7) one of padding 3 all
    but the first row and column fit.
    """
    edges = (-1, 0, -1, 0) if kernel.shape[-1] == 7 else (1, 2, 1, 2)
    return space_to_channel(functional.pad(kernel, edges))


def embedded_state(state: Mapping[str, torch.Tensor], network: nn.Module) -> State:
    """
    Return the tensors of a strided network under the names that `network` has for them.

    A strided 3x3 kernel becomes the first of the layer that took its place: exactly the same
    function in SPD-Conv, and a hint where norms and more convolutions follow. Other kernels, such
    as the 7x7 of a ResNet's stem, stay what and where they are.
    """
    found = dict(state)
    for name, module in network.named_modules():
        first = _FIRST.get(type(module))
        kernel = found.get(f'{name}.weight')
        if first is None or kernel is None or kernel.shape[2:] != (3, 3):
            continue
        del found[f'{name}.weight']
        # A control's first convolution is strided itself.
        found[f'{name}.{first}'] = (
            kernel if isinstance(module, DepthControl) else embedded_kernel(kernel))
    return found
