# SPDX-License-Identifier: Apache-2.0
"""Weights that a float16 file holds without loss, so that torch and the engine agree."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from hmr_ros.networks.folding import convolutions_before_norms
from hmr_ros.networks.rsc_net import BodyFilter, RscNet, RscTemporal

Network = TypeVar('Network', RscNet, RscTemporal, BodyFilter)


def rounded(network: Network) -> Network:
    """
    Return a copy whose weights are the nearest ones that the exported file stores exactly.

    For the end of training: engine and module then differ by rounding of float32 only. A
    convolution is rounded as it will stand in the file, with the norm behind it folded in.
    """
    network = copy.deepcopy(network)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Linear, nn.GRU, nn.GRUCell)):
                for weight in module.parameters(recurse=False):
                    if weight.ndim == 2:
                        weight.copy_(weight.half())
        if isinstance(network, RscNet):
            for module, conv, norm in convolutions_before_norms(network.backbone):
                _round_folded(module.get_submodule(conv), module.get_submodule(norm))
    return network


def _round_folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    # Where the norm silences a channel, its weights do not matter.
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)[:, None, None, None]
    conv.weight.copy_((conv.weight * scale).half() / scale)
