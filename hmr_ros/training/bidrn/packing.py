# SPDX-License-Identifier: Apache-2.0
"""Modules of binary networks as layers on packed bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from hmr_ros.networks.bidrn.binarization import ShiftedPReLU, weight_scale
from hmr_ros.networks.bidrn.encoders import BinaryBlock, BinaryResNet
from hmr_ros.networks.bidrn.residuals import FusionDown, LocalResidual
from hmr_ros.networks.bidrn.variants import NAMED
from hmr_ros.runtime.packed_bits import PackedKernel
from hmr_ros.runtime.packed_encoder import PackedBlock, PackedEncoder, Projection, Stem
from hmr_ros.runtime.packed_layers import Bend, PackedFusion, PackedResidual
from hmr_ros.training.errors import TrainingError


def packed_residual(module: LocalResidual, norm: nn.BatchNorm2d) -> PackedResidual:
    """Fold a module and the norm behind it, in evaluation mode."""
    scale, offset = _line(norm)
    bend = Bend.of(_numbers(weight_scale(module.weight)).ravel(), _act(module.act), scale, offset)
    return PackedResidual(PackedKernel.of(_numbers(module.weight)), bend,
                          scale.astype(np.float32), module.stride[0])


def packed_fusion(module: FusionDown, norm: nn.BatchNorm2d) -> PackedFusion:
    """Fold a module that joins branches, and the norm behind it, in evaluation mode."""
    scale, offset = _line(norm)
    branches = zip(
        module.grouped().chunk(module.branches),
        zip(*(np.split(value, module.branches) for value in _act(module.act))))
    kernels, bends = zip(*(
        (PackedKernel.of(_numbers(weight)),
         Bend.of(_numbers(weight_scale(weight)).ravel(), act, scale))
        for weight, act in branches))
    return PackedFusion(kernels, bends, *(row.astype(np.float32) for row in (scale, offset)))


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _act(act: ShiftedPReLU) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _numbers(act.gamma), _numbers(act.beta), _numbers(act.zeta)


def _line(norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset `(O,)` float64 of a norm in evaluation mode."""
    mean, variance, weight, bias = (_numbers(value).astype(np.float64) for value in (
        norm.running_mean, norm.running_var, norm.weight, norm.bias))
    scale = weight / np.sqrt(variance + norm.eps)
    return scale, bias - mean * scale


def packed_encoder(network: BinaryResNet) -> PackedEncoder:
    """
    Fold a binary ResNet in evaluation mode.

    Raises TrainingError for variants that packed bits are not made for: those with modules without
    a shortcut of their own, with binary or without shortcuts around blocks, or with clipped ones.
    """
    variant = network.variant
    if variant != replace(NAMED['bidrn'], binary=variant.binary, boxes=variant.boxes,
                          box_deconv3=variant.box_deconv3):
        raise TrainingError(
            f'packed layers are made for the encoders of bidrn, not for {variant}; choose bidrn')
    scale, offset = _line(network.bn1)
    weight = _numbers(network.conv1.weight) * scale[:, None, None, None]
    stem = Stem(weight.reshape(len(weight), -1).T.astype(np.float32), offset.astype(np.float32))
    blocks = (block for layer in (network.layer1, network.layer2, network.layer3, network.layer4)
              for block in layer)
    return PackedEncoder(stem, tuple(map(_packed_block, blocks)))


def _packed_block(block: BinaryBlock) -> PackedBlock:
    layers = []
    for number in range(1, block.count + 1):
        module, norm = (block.get_submodule(f'{name}{number}') for name in ('conv', 'bn'))
        pack = packed_fusion if isinstance(module, FusionDown) else packed_residual
        layers.append(pack(module, norm))
    if isinstance(block.downsample, nn.Identity):
        return PackedBlock(tuple(layers), None)
    conv, norm = block.downsample
    scale, offset = _line(norm)
    weight = (_numbers(conv.weight)[..., 0, 0] * scale[:, None]).T
    return PackedBlock(tuple(layers), Projection(
        np.ascontiguousarray(weight, np.float32), offset.astype(np.float32), conv.stride[0]))
