# SPDX-License-Identifier: Apache-2.0
"""Modules of binary networks as layers on packed bits."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hmr_ros.networks.bidrn.binarization import ShiftedPReLU, weight_scale
from hmr_ros.networks.bidrn.residuals import FusionDown, LocalResidual
from hmr_ros.runtime.packed_bits import PackedKernel
from hmr_ros.runtime.packed_layers import Bend, PackedFusion, PackedResidual


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
