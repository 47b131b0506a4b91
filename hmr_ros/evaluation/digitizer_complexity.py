# SPDX-License-Identifier: Apache-2.0
"""Sizes of the digitizer's networks beside the sheet's (section 10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hmr_ros.networks.digitizer_2k2k import Digitizer, Variant
from hmr_ros.perception.digitizer.parts import PARTS, PATCHES, patch_size, RESOLUTIONS

#: parameters, and GMAC of convolutions at 2048, 1024 and 512 pixels, of all patches together.
SHEET: dict[str, tuple[int, tuple[float, float, float]]] = {
    'head': (8_653_679, (90.90, 22.72, 5.93)), 'torso': (8_653_679, (136.94, 34.24, 9.24)),
    'arm': (8_653_679, (243.45, 60.86, 15.22)), 'leg': (8_653_679, (214.99, 53.75, 14.23)),
    'foot': (8_653_679, (34.78, 8.69, 2.37)), 'low_normals': (8_651_951, (50.47, 12.62, 3.15)),
    'low_depth': (25_460_815, (58.03, 14.51, 3.63)),
    'high_depth': (274_051, (518.35, 129.59, 32.40))}
#: of all of them.
SHEET_TOTAL = (77_655_212, (1347.9, 337.0, 86.2))
_HALF_BYTES = 2
_COUNTER = '.num_batches_tracked'


def inputs_of(network: Digitizer) -> Iterator[tuple[str, nn.Module, tuple[torch.Tensor, ...]]]:
    """Yield the name, network and empty inputs, on its device, of every network for one image."""
    side, device = network.variant.resolution, network.low_normals.head.weight.device
    low = side // 8

    def empty(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, device=device)
    for name in PATCHES:
        count = sum(part.patch == name for part in PARTS)
        yield name, network.parts[name], (empty(count, 6, *patch_size(name, side)),)
    yield 'low_normals', network.low_normals, (empty(1, 3, low, low),)
    yield 'low_depth', network.low_depth, (empty(1, 3, low, low), empty(1, 6, low, low))
    yield 'high_depth', network.high_depth, (empty(1, 2, low, low), empty(1, 6, side, side))


def count(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[int, float]:
    """Parameters, and GMAC of convolutions for `inputs`; switches it to evaluation mode."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(*inputs)
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() / 2e9


def float16_megabytes(variant: Variant) -> float:
    """Size of all that a file of weights holds in float16; a megabyte is 10^6 bytes."""
    with torch.device('meta'):
        state = Digitizer(variant).state_dict()
    return _HALF_BYTES * sum(
        value.numel() for name, value in state.items() if not name.endswith(_COUNTER)) / 1e6


def describe(variant: Variant = Variant()) -> dict[str, Any]:
    """Parameters and GMAC of every network for one image, beside the sheet's at width 1."""
    with torch.device('meta'):
        network = Digitizer(variant)
    counts = {name: count(one, inputs) for name, one, inputs in inputs_of(network)}
    column = RESOLUTIONS.index(variant.resolution)
    published = {} if variant.width != 1 else {
        'parameters': SHEET_TOTAL[0], 'gmacs': SHEET_TOTAL[1][column],
        'parameters_by_module': {name: row[0] for name, row in SHEET.items()},
        'gmacs_by_module': {name: row[1][column] for name, row in SHEET.items()}}
    return {
        'network': 'digitizer_2k2k', 'resolution': variant.resolution, 'width': variant.width,
        'parameters': sum(row[0] for row in counts.values()),
        'gmacs': sum(row[1] for row in counts.values()),
        'float16_mb': float16_megabytes(variant),
        'parameters_by_module': {name: row[0] for name, row in counts.items()},
        'gmacs_by_module': {name: row[1] for name, row in counts.items()}, 'paper': published}
