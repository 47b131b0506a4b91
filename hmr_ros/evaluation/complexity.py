# SPDX-License-Identifier: Apache-2.0
"""Sizes of networks: parameters and multiply-accumulates, beside the published numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# Table II of the paper; how they were counted: sheet keypoint_guided, section 8.
PAPER = {'keypoint_guided': {'gmacs': 0.8, 'parameters_m': 10.9, 'backbone_parameters_m': 4.66}}


def count_macs(network: nn.Module, image_size: int) -> int:
    """Multiply-accumulates of convolutions and linear layers for one square RGB image."""
    total = 0

    def add(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        else:
            total += output[0].numel() * module.in_features

    hooks = [module.register_forward_hook(add) for module in network.modules()
             if isinstance(module, (nn.Conv2d, nn.Linear))]
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, image_size, image_size))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def describe(name: str) -> dict[str, Any]:
    """Parameters, by module too, and GMAC of a network; KeyError for a name without one."""
    from hmr_ros.networks.keypoint_guided import KeypointGuided
    network = {'keypoint_guided': KeypointGuided}[name]()
    by_module = {
        child: sum(parameter.numel() for parameter in module.parameters())
        for child, module in network.named_children()}
    return {
        'network': name, 'parameters': sum(p.numel() for p in network.parameters()),
        'parameters_by_module': by_module, 'gmacs': count_macs(network, 256) / 1e9,
        'paper': PAPER[name]}
