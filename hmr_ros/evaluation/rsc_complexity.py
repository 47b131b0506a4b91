# SPDX-License-Identifier: Apache-2.0
"""Sizes of rsc_net and its temporal networks beside the sheet's (section 8)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hmr_ros.networks.rsc_net.backbone import BACKBONES
from hmr_ros.networks.rsc_net.deploy import FilterStep, RowEngine, TemporalStep
from hmr_ros.networks.rsc_net.texture import IMAGE_SIZE, RscTexture
from hmr_ros.training.rsc_net.export import tensors_of
from hmr_ros.training.rsc_net.weights import build_network, FILTER, RscFacts, TEMPORAL

#: parameters and GMAC of one crop or one frame, as the sheet has them.
SHEET: dict[str, dict[str, float]] = {
    'rsc_net': {'parameters': 26_977_581, 'gmacs': 4.097538048},
    'rsc_temporal': {'parameters': 21_309_597, 'gmacs': 0.028227584},
    'rsc_texture': {'parameters': 18_257_347, 'gmacs': 6.293553152}}
_STEPS: dict[str, type[nn.Module]] = {TEMPORAL: TemporalStep, FILTER: FilterStep}
#: of the default engine's feature, and of the shipped filter.
_FILTER = RscFacts(FILTER, features=512, hidden=256)


def describe(network: str, backbone: str = 'resnet50') -> dict[str, Any]:
    """
    Parameters, by module too, and GMAC of the deployed form, where the sheet counts the whole.

    backbone  a name of BACKBONES, of rsc_net only
    """
    if network == 'rsc_texture':
        return _describe_texture()
    facts = _FILTER if network == FILTER else RscFacts(network, backbone=backbone)
    built = build_network(facts).eval()
    engine = _STEPS.get(network, RowEngine)(built)
    inputs = [torch.zeros(spec.shape_for(1), dtype=getattr(torch, spec.dtype))
              for spec in tensors_of(built)[0]]
    published = SHEET.get(network, {}) if facts.backbone == 'resnet50' else {}
    return _sizes(network, built, _gmacs(engine, inputs), published)


def _describe_texture() -> dict[str, Any]:
    """Return the same of the texture network."""
    with torch.device('meta'):
        built, image = RscTexture().eval(), torch.zeros(1, 3, *IMAGE_SIZE)
    return _sizes('rsc_texture', built, _gmacs(built, [image]), SHEET['rsc_texture'])


def _gmacs(engine: nn.Module, inputs: list[torch.Tensor]) -> float:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        engine(*inputs)
    return counter.get_total_flops() / 2e9


def _sizes(
        network: str, built: nn.Module, gmacs: float, paper: dict[str, float]) -> dict[str, Any]:
    return {
        'network': network, 'parameters': sum(p.numel() for p in built.parameters()),
        'parameters_by_module': {
            name: sum(p.numel() for p in module.parameters())
            for name, module in built.named_children()},
        'gmacs': gmacs, 'paper': paper}
