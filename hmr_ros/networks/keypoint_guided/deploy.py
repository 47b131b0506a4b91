# SPDX-License-Identifier: Apache-2.0
"""The network as an engine runs it: folded norms and trunk, filters as matrix products."""

from __future__ import annotations

import copy
from typing import Literal, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hmr_ros.networks.keypoint_guided.heads import FoldedTrunk
from hmr_ros.networks.keypoint_guided.mgfenet import Block, ConvNorm, MGFENet, SqueezeExcite
from hmr_ros.networks.keypoint_guided.network import KeypointGuided
from hmr_ros.networks.keypoint_guided.pyramid import Rise
from hmr_ros.networks.keypoint_guided.spectral_filter import MatmulSpectralFilter

Network = TypeVar('Network', bound=nn.Module)
#: channels that runtimes block together with 512-bit vectors.
VECTOR_CHANNELS = 16


def deployable(network: Network) -> Network:
    """
    Return a copy in evaluation mode with the exact simplifications of the sheet, section 7.4.

    Same inputs and outputs to rounding; only crops of the network's `image_size`.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    network = network.to(memory_format=torch.contiguous_format)
    for module in list(network.modules()):
        if isinstance(module, ConvNorm):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
        if isinstance(module, Rise):
            fold_norm(module)
    if isinstance(network.backbone, MGFENet):
        for block in network.backbone.blocks:
            block.filter = MatmulSpectralFilter(block.filter)
            widen(block)
    if isinstance(network, KeypointGuided):
        network.trunk = FoldedTrunk(network.trunk)
    return network


def fold_norm(rise: Rise) -> None:
    """Put the norm behind a sum of two convolutions into them, where no runtime looks for it."""
    norm = rise.norm
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    rise.up.weight = nn.Parameter(rise.up.weight * scale[:, None, None], requires_grad=False)
    rise.side.weight = nn.Parameter(
        rise.side.weight * scale[:, None, None, None], requires_grad=False)
    rise.side.bias = nn.Parameter(norm.bias - norm.running_mean * scale, requires_grad=False)
    rise.norm = nn.Identity()


def widen(block: Block) -> None:
    """
    Give a block whose norms are folded a wide width that is a multiple of VECTOR_CHANNELS.

    The new channels are zero from the expansion to the projection, so the results are the same,
    but a runtime's blocked depth-wise kernels need the whole multiple and are several times faster.
    """
    depthwise = block.depthwise[0]
    more = -depthwise.out_channels % VECTOR_CHANNELS
    if not more:
        return
    place, wide = block.expand[0].out_channels, depthwise.out_channels + more
    _insert_zeros(block.expand[0], 'out', place, more)
    _insert_zeros(depthwise, 'out', place, more)
    depthwise.groups = depthwise.in_channels = wide
    if isinstance(block.squeeze, SqueezeExcite):
        _insert_zeros(block.squeeze.reduce, 'in', place, more)
        _insert_zeros(block.squeeze.expand, 'out', place, more)
    _insert_zeros(block.project[0], 'in', place, more)


def _insert_zeros(
        conv: nn.Conv2d, side: Literal['in', 'out'], place: int, count: int) -> None:
    """Insert `count` channels of zero weights before channel `place` of a side of `conv`."""
    axis = 0 if side == 'out' else 1
    conv.weight = nn.Parameter(_with_zeros(conv.weight, axis, place, count), requires_grad=False)
    if side == 'in':
        conv.in_channels += count
        return
    conv.out_channels += count
    conv.bias = nn.Parameter(_with_zeros(conv.bias, 0, place, count), requires_grad=False)


def _with_zeros(values: torch.Tensor, axis: int, place: int, count: int) -> torch.Tensor:
    before, after = values.split([place, values.shape[axis] - place], axis)
    shape = list(values.shape)
    shape[axis] = count
    return torch.cat([before, values.new_zeros(shape), after], axis)
