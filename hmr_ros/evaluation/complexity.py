# SPDX-License-Identifier: Apache-2.0
"""Sizes of networks, counted whole and as the paper counted, beside the published numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hmr_ros.networks.keypoint_guided import AnyNetwork, build_network, Variant
from hmr_ros.networks.keypoint_guided.spectral_filter import SpectralFilter

#: Table II (the last row is Table V) of the paper by variant; how it counted: sheet, section 8.
PAPER: dict[Variant, dict[str, float]] = {
    Variant(): {'gmacs': 0.8, 'parameters_m': 10.9, 'backbone_parameters_m': 4.66},
    Variant('resnet34'): {'gmacs': 5.0, 'parameters_m': 26.0},
    Variant('hrnet_w48'): {'gmacs': 23.4, 'parameters_m': 89.0},
    Variant('resnet34', 29): {'gmacs': 4.9}}
_COUNTED = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


def count_macs(network: AnyNetwork) -> int:
    """
    Multiply-accumulates of convolutions and matrix products for one crop.

    Spectral filters are left out; see `filter_macs`.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(_crop(network))
    return counter.get_total_flops() // 2


def _crop(network: AnyNetwork) -> torch.Tensor:
    return torch.zeros(1, 3, network.image_size, network.image_size)


def filter_macs(network: nn.Module) -> int:
    """Multiply-accumulates of the spectral filters as an engine runs them (sheet 7.1)."""
    return sum(
        12 * module.size ** 2 * (module.size // 2 + 1) * module.complex_weight.shape[0]
        for module in network.modules() if isinstance(module, SpectralFilter))


def count_as_paper(network: AnyNetwork) -> tuple[int, int]:
    """
    Count multiply-accumulates and parameters as the program `thop` does, which the paper used.

    Convolutions, linear layers, and four operations per element of a batch norm; no filters,
    attention products or parameters outside such layers. Pooling (0.1 %) is not counted here.
    """
    total = 0

    def add(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        each = 4 if isinstance(module, nn.BatchNorm2d) else module.weight[0].numel()
        total += output[0].numel() * each

    layers = [module for module in network.modules() if isinstance(module, _COUNTED)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        with torch.no_grad():
            network.eval()(_crop(network))
    finally:
        for hook in hooks:
            hook.remove()
    return total, sum(p.numel() for layer in layers for p in layer.parameters(recurse=False))


def describe(variant: Variant = Variant()) -> dict[str, Any]:
    """Parameters, by module too, and GMAC of a variant of keypoint_guided, in both countings."""
    network = build_network(variant)
    as_paper = count_as_paper(network)
    return {
        'network': 'keypoint_guided', 'backbone': variant.backbone, 'tokens': variant.tokens,
        'parameters': sum(p.numel() for p in network.parameters()),
        'parameters_by_module': {
            name: sum(p.numel() for p in module.parameters())
            for name, module in network.named_children()},
        'gmacs': count_macs(network) / 1e9, 'filter_gmacs': filter_macs(network) / 1e9,
        'as_paper_counts': {'gmacs': as_paper[0] / 1e9, 'parameters_m': as_paper[1] / 1e6},
        'paper': PAPER.get(variant, {})}
