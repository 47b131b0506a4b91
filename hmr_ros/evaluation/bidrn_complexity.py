# SPDX-License-Identifier: Apache-2.0
"""Sizes of the networks of bidrn, counted as the paper counted (sheet, section 8)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from hmr_ros.networks.bidrn import compact, NAMED, Variant, WholeBody
from hmr_ros.networks.bidrn.binarization import BINARY_LAYERS

#: the paper's parameters in millions and operations in units of 2^30, by row.
PAPER: dict[str, tuple[float, float]] = {
    'hand4whole': (77.84, 16.85), 'bnn': (21.61, 2.63), 'xnor': (21.61, 2.63),
    'bireal': (21.61, 2.63), 'react': (21.66, 2.63), 'base_lcr': (17.05, 2.48),
    'down_scale': (17.05, 2.48), 'fusion_up': (17.14, 2.49), 'fusion_down': (17.21, 2.50),
    'bidrn': (17.22, 2.50), 'no_shortcut': (11.51, 1.25), 'binary_shortcut': (11.68, 1.28),
    'binary_shortcut_full_boxes': (21.81, 1.87), 'body_only': (47.78, 7.45),
    'hand_only': (47.78, 7.45), 'face_only': (57.08, 9.94)}
_UNIT = 2 ** 30
#: of one element of a batch norm in training, and of one bilinear sample.
_NORM, _SAMPLE = 5, 4
#: of the layer that makes the mesh of the SMPL-X parameters.
_MESH_LAYER = 27.0e6
_BITS_OF_A_WORD, _BITS_OF_A_FLOAT = 64, 32


@dataclass(frozen=True)
class Counts:
    """
    What a variant holds and does for one person, who has two hands.

    binary_parameters, parameters  weights of one bit, and all others
    binary_operations, operations  multiply-adds of bits with bits, and all others
    """

    binary_parameters: int
    parameters: int
    binary_operations: float
    operations: float

    @property
    def effective_parameters(self) -> float:
        """As the paper counts them: a bit is a 32nd of a float."""
        return self.binary_parameters / _BITS_OF_A_FLOAT + self.parameters

    @property
    def effective_operations(self) -> float:
        """As the paper counts them, in units of 2^30: 64 of bits are one."""
        return (self.binary_operations / _BITS_OF_A_WORD + self.operations) / _UNIT


class _Tally:
    """Adds up operations while a network runs."""

    def __init__(self, network: nn.Module) -> None:
        self.binary = self.full = 0.0
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)):
                module.register_forward_hook(self._add)

    def _add(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if isinstance(module, nn.BatchNorm2d):
            done: float = _NORM * output.numel()
        elif isinstance(module, nn.ConvTranspose2d):
            done = inputs[0].numel() * module.weight[0].numel()
        else:
            done = output.numel() * module.weight[0].numel()
        if isinstance(module, BINARY_LAYERS):
            self.binary += done
        else:
            self.full += done


def count(variant: Variant) -> Counts:
    """Count a variant without making its weights."""
    with torch.device('meta'):
        network = WholeBody(variant).eval()
        tally = _Tally(network)
        sampled = _run(network)
    binary = sum(layer.weight.numel() for layer in network.modules()
                 if isinstance(layer, BINARY_LAYERS))
    return Counts(
        binary, sum(p.numel() for p in network.parameters()) - binary, tally.binary,
        tally.full + sampled + _MESH_LAYER)


def count_as_paper(row: str) -> Counts:
    """
    Count a row of NAMED as the paper did.

    Its rows of binary encoders own the box network's third deconvolution but do not run it, but
    for those of earlier binary networks.
    """
    variant = NAMED[row]
    counts = count(variant)
    if row in ('hand4whole', 'bnn', 'xnor', 'bireal', 'react'):
        return counts
    shorter = count(replace(variant, box_deconv3='none'))
    return replace(counts, binary_operations=shorter.binary_operations,
                   operations=shorter.operations)


def _run(network: WholeBody) -> float:
    """Run all parts on empty tensors; returns the operations of samplers, which are no modules."""
    sizes = network.variant.sizes
    feature = network.backbone.last_map(torch.zeros(1, 3, *sizes.body))
    joints, likely = network.body_position_net(feature)
    network.box_net(feature, likely)
    hands = network.hand_roi_net(torch.zeros(2, 3, sizes.hand, sizes.hand))
    hand_joints, _ = network.hand_position_net(hands)
    network.hand_rotation_net(hands, hand_joints)
    left, right = hands.chunk(2)
    network.body_rotation_net((feature, left, right), (joints, *hand_joints.chunk(2)))
    network.face_regressor(network.face_roi_net(torch.zeros(1, 3, sizes.face, sizes.face)))
    # Crops of hands and face were not counted.
    points = sizes.reduced * (joints.shape[1] + 8 + 2 * hand_joints.shape[1])
    points += 3 * sizes.box_width
    return 3 * sizes.body[0] * sizes.body[1] + _SAMPLE * points


def describe(row: str = 'bidrn') -> dict[str, Any]:
    """
    Parameters and operations of a row of NAMED, in our counting and the paper's; those of the same
    row in the compact plan too.
    """
    counts, small, published = count(NAMED[row]), count(compact(row)), PAPER[row]
    return {
        'network': 'bidrn', 'row': row, 'binary_parameters': counts.binary_parameters,
        'parameters': counts.parameters,
        'effective_parameters_m': counts.effective_parameters / 1e6,
        'effective_operations_g': counts.effective_operations,
        'as_paper_counts_g': count_as_paper(row).effective_operations,
        'compact': {
            'effective_parameters_m': small.effective_parameters / 1e6,
            'effective_operations_g': small.effective_operations},
        'paper': {'parameters_m': published[0], 'operations_g': published[1]}}
