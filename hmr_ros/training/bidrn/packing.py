# SPDX-License-Identifier: Apache-2.0
"""Binary networks as files of packed bits: folds what evaluation mode folds (bidrn sheet, 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hmr_ros.body.whole_body import OPEN_WHOLE_BODY, WholeBodyModel
from hmr_ros.networks.bidrn import NAMED, WholeBody
from hmr_ros.networks.bidrn.binarization import (
    BinaryDeconv2d, BinaryLinear, ShiftedPReLU, weight_scale)
from hmr_ros.networks.bidrn.boxes import BoxNet
from hmr_ros.networks.bidrn.encoders import BinaryBlock, BinaryResNet
from hmr_ros.networks.bidrn.layout import BOXES, DEPTH, FARTHEST, KNUCKLES
from hmr_ros.networks.bidrn.residuals import FusionDown, LocalResidual
from hmr_ros.runtime.manifest import add_entry, file_sha256, ManifestEntry
from hmr_ros.runtime.packed_bits import pack_weights, WORD
from hmr_ros.runtime.packed_file import SUFFIX, write_packed
from hmr_ros.runtime.packed_layers import bend_rows, line_rows
from hmr_ros.training.bidrn.export import whole_body_tensors
from hmr_ros.training.bidrn.weights import WholeBodyFacts
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.onnx_export import check_body

Arrays = dict[str, np.ndarray]
#: how weights that are not bits may be stored.
_STORED = ('float16', 'float32')


def export_engine(
        network: WholeBody, body: WholeBodyModel, folder: str | Path, name: str,
        weights: str = 'float16', facts: WholeBodyFacts = WholeBodyFacts(),
        training_data: str = '', accuracy: dict[str, Any] | None = None) -> ManifestEntry:
    """
    Write a network as packed engine `name` into `folder` and its manifest; see `write_network`.

    Raises TrainingError as that does, and when the weights are for another body than `body`.
    """
    check_body(facts.body_model, body, OPEN_WHOLE_BODY.stem)
    path, plan = Path(folder) / f'{name}{SUFFIX}', network.variant.sizes
    write_network(network, path, weights)
    inputs, outputs = ({spec.name: spec.shape for spec in tensors}
                       for tensors in whole_body_tensors(plan))
    entry = ManifestEntry(
        name, facts.network, path.name, file_sha256(path), 0, inputs, outputs, plan.image[0],
        (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), facts.licence, weights=weights, body_model=body.name,
        body_model_sha256=body.sha256, training_data=training_data, accuracy=accuracy or {})
    add_entry(Path(folder), entry)
    return entry


def write_network(network: WholeBody, path: Path, weights: str = 'float16') -> None:
    """
    Write a network, in evaluation mode, to a file that `runtime.packed_network` reads.

    weights  'float16' or 'float32', how those that are not bits are stored

    Raises TrainingError for variants that packed bits are not made for: those with encoders or box
    networks of floats, modules without a shortcut of their own, binary or no shortcuts around
    blocks, or clipped ones.
    """
    if weights not in _STORED:
        raise TrainingError(f'weights of packed engines are stored as {" or ".join(_STORED)}, not '
                            f'{weights}; their binary layers have one bit either way')
    header, arrays = packed_network(network)
    write_packed(path, header, arrays, weights)


def packed_network(network: WholeBody) -> tuple[dict[str, Any], Arrays]:
    """Fold a network: header and arrays of its file. Raises as `write_network` does."""
    variant = network.variant
    if variant != replace(NAMED['bidrn'], plan=variant.plan, box_deconv3=variant.box_deconv3):
        raise TrainingError(
            f'packed engines are made of the row bidrn, not of {variant}; export this one to ONNX')
    encoders = {'body': network.backbone, 'hand': network.hand_roi_net.backbone,
                'face': network.face_roi_net.backbone}
    arrays: Arrays = {}
    for name, encoder in encoders.items():
        arrays.update(encoder_arrays(encoder, name))
    lines = dict(_lines(network))
    for name, (weight, bias) in lines.items():
        arrays.update({f'{name}.weight': weight, f'{name}.bias': bias})
    arrays.update(_box_arrays(network.box_net))
    sizes = variant.sizes
    return {
        'network': 'bidrn', 'plan': variant.plan, 'image': sizes.image, 'body': sizes.body,
        'hand': sizes.hand, 'face': sizes.face, 'depth': DEPTH, 'knuckles': KNUCKLES,
        'farthest': FARTHEST, 'growth': list(BOXES.values()), 'box_width': sizes.box_width,
        'box_channels': network.box_net.deconv[0].in_channels,
        'box_deconv3': variant.box_deconv3,
        'encoders': {name: encoder_plan(encoder) for name, encoder in encoders.items()},
        'lines': {name: weight.shape for name, (weight, _) in lines.items()}}, arrays


# ---- encoders

def _blocks(encoder: BinaryResNet) -> Iterator[BinaryBlock]:
    for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
        yield from stage


def _modules(block: BinaryBlock) -> list[tuple[LocalResidual | FusionDown, nn.BatchNorm2d]]:
    return [(block.get_submodule(f'conv{number}'), block.get_submodule(f'bn{number}'))
            for number in range(1, block.count + 1)]


def encoder_plan(encoder: BinaryResNet) -> list[list[tuple[int, int, int, int]]]:
    """Channels in and out, taps of a side and stride of all modules, block by block."""
    return [[(module.in_channels, module.out_channels, module.kernel_size[0], module.stride[0])
             for module, _ in _modules(block)] for block in _blocks(encoder)]


def encoder_arrays(encoder: BinaryResNet, name: str) -> Arrays:
    """Fold a binary ResNet; names of its arrays begin with `name`."""
    scale, offset = _line(encoder.bn1)
    weight = _numbers(encoder.conv1.weight) * scale[:, None, None, None]
    arrays = {f'{name}.stem.weight': _floats(weight.transpose(2, 3, 1, 0).reshape(147, -1)),
              f'{name}.stem.bias': _floats(offset)}
    for number, block in enumerate(_blocks(encoder)):
        shortcut: np.ndarray | float = 0.0
        if not isinstance(block.downsample, nn.Identity):
            conv, norm = block.downsample
            scale, shortcut = _line(norm)
            weight = _numbers(conv.weight)[..., 0, 0] * scale[:, None]
            arrays[f'{name}.{number}.shortcut.weight'] = _floats(weight.T)
        modules = _modules(block)
        for place, (module, norm) in enumerate(modules):
            # The last layer adds what the shortcut's norm adds.
            more = shortcut if place == len(modules) - 1 else 0.0
            arrays.update(layer_arrays(module, norm, f'{name}.{number}.{place}', more))
    return arrays


def layer_arrays(
        module: LocalResidual | FusionDown, norm: nn.BatchNorm2d, name: str,
        more: np.ndarray | float = 0.0) -> Arrays:
    """Fold a module and the norm behind it; `more` is added to its outputs."""
    scale, offset = _line(norm)
    grouped, branches = module.weight, 1
    if isinstance(module, FusionDown):
        grouped, branches = module.grouped(), module.branches
        if module.in_channels // branches % WORD:
            raise TrainingError(f'{name} joins branches of {module.in_channels // branches} '
                                f'channels; packed layers need multiples of {WORD}')
    alphas = _numbers(weight_scale(grouped)).reshape(branches, -1)
    acts = zip(*(_numbers(value).reshape(branches, -1) for value in _act(module.act)))
    # The norm's offset is added once, by the first branch.
    rows = [bend_rows(alpha, act, scale, 0.0 if branch else offset + more)
            for branch, (alpha, act) in enumerate(zip(alphas, acts))]
    return {f'{name}.bits': pack_weights(_numbers(module.weight), branches),
            f'{name}.bend': np.stack(rows), f'{name}.keep': _floats(scale)}


def _act(act: ShiftedPReLU) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return act.gamma, act.beta, act.zeta


# ---- the rest

def _lines(network: WholeBody) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Linear layers and 1x1 convolutions of floats by name: (C, O) and (O,)."""
    plain = [f'{part}_position_net.conv.0' for part in ('body', 'hand')]
    plain += [f'body_rotation_net.{out}_out.0'
              for out in ('root_pose', 'body_pose', 'shape', 'cam')]
    plain += ['hand_rotation_net.hand_pose_out.0', 'face_regressor.expr_out.0',
              'face_regressor.jaw_pose_out.0', 'box_net.bbox_center.0']
    plain += [f'box_net.{part}_size.2' for part in BOXES]
    for name in plain:
        layer = network.get_submodule(name)
        weight = _numbers(layer.weight).reshape(len(layer.weight), -1)
        yield (name.rpartition('.')[0].removesuffix('.conv'),
               (_floats(weight.T), _floats(_numbers(layer.bias))))
    for name in ('body_rotation_net.body_conv', 'body_rotation_net.lhand_conv',
                 'body_rotation_net.rhand_conv', 'hand_rotation_net.hand_conv'):
        conv, norm, _ = network.get_submodule(name)
        scale, offset = _line(norm)
        weight = _numbers(conv.weight)[..., 0, 0] * scale[:, None]
        yield name, (_floats(weight.T), _floats(_numbers(conv.bias) * scale + offset))


def _box_arrays(boxes: BoxNet) -> Arrays:
    arrays: Arrays = {}
    for number in range(len(boxes.deconv) // 3):
        layer, norm = boxes.deconv[3 * number], boxes.deconv[3 * number + 1]
        if isinstance(layer, BinaryDeconv2d):
            arrays.update(_deconvolution_arrays(layer, norm, f'box_net.{number}'))
            continue
        scale, offset = _line(norm)
        arrays.update({
            f'box_net.{number}.weight': _floats(_numbers(layer.weight).transpose(2, 3, 0, 1)),
            f'box_net.{number}.scale': _floats(scale), f'box_net.{number}.offset': _floats(offset)})
    for part in BOXES:
        layer = getattr(boxes, f'{part}_size')[0]
        arrays.update(_linear_arrays(layer, f'box_net.{part}'))
    return arrays


def _deconvolution_arrays(layer: BinaryDeconv2d, norm: nn.BatchNorm2d, name: str) -> Arrays:
    weight = layer.weight.transpose(0, 1)
    alpha = _numbers(weight_scale(weight)).ravel()
    scale, offset = _line(norm)
    return {f'{name}.bits': pack_weights(_numbers(weight)),
            f'{name}.bend': line_rows(scale * alpha, offset)}


def _linear_arrays(layer: BinaryLinear, name: str) -> Arrays:
    alpha = _numbers(weight_scale(layer.weight)).ravel()
    return {f'{name}.bits': pack_weights(_numbers(layer.weight)[..., None, None]),
            f'{name}.bend': line_rows(alpha, _numbers(layer.bias))[None]}


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _floats(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)


def _line(norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset `(O,)` float64 of a norm in evaluation mode."""
    mean, variance, weight, bias = (_numbers(value).astype(np.float64) for value in (
        norm.running_mean, norm.running_var, norm.weight, norm.bias))
    scale = weight / np.sqrt(variance + norm.eps)
    return scale, bias - mean * scale
