# SPDX-License-Identifier: Apache-2.0
"""The network as an engine runs it: folded norms and trunk, filters as matrix products."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hmr_ros.networks.keypoint_guided.heads import FoldedTrunk
from hmr_ros.networks.keypoint_guided.mgfenet import ConvNorm, MGFENet
from hmr_ros.networks.keypoint_guided.network import KeypointGuided
from hmr_ros.networks.keypoint_guided.spectral_filter import MatmulSpectralFilter


def deployable(network: KeypointGuided) -> KeypointGuided:
    """
    Return a copy in evaluation mode with the exact simplifications of the sheet, section 7.4.

    Same inputs and outputs to rounding; only 256x256 crops.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    network = network.to(memory_format=torch.contiguous_format)
    for module in list(network.modules()):
        if isinstance(module, ConvNorm):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    if isinstance(network.backbone, MGFENet):
        for block in network.backbone.blocks:
            block.filter = MatmulSpectralFilter(block.filter)
    network.trunk = FoldedTrunk(network.trunk)
    return network
