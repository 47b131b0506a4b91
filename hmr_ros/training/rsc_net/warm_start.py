# SPDX-License-Identifier: Apache-2.0
"""Begins a compact rsc_net as the backbone of a compact keypoint_guided engine."""

from __future__ import annotations

from collections.abc import Iterator
import itertools

import numpy as np
import onnx
from onnx import numpy_helper
import torch
from torch import nn

from hmr_ros.networks.folding import convolutions_before_norms
from hmr_ros.networks.keypoint_guided.pyramid import Rise
from hmr_ros.networks.rsc_net.backbone import ScaledPyramid
from hmr_ros.runtime import resolve_engine
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.rsc_net.data import Resolutions
from hmr_ros.training.rsc_net.weights import RscFacts

#: batches that the statistics of the norms are taken from.
_BATCHES = 30
_FACTS = RscFacts()


def start_as_engine(backbone: ScaledPyramid, name: str, data: Resolutions) -> None:
    """
    Give `backbone` the weights of an engine, with norms that change nothing at first.

    An engine has its norms inside its convolutions. They come back with the statistics of the
    crops of `data` and the gains that undo them, so that training sees norms as always.

    Raises TrainingError when the engine is not one of the compact keypoint_guided.
    """
    weights = _convolutions(name)
    for path, module in backbone.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            _fill(module, weights, path.replace('pyramid', 'backbone'), name)
    norms = list(_norms(backbone))
    for norm, path in norms:
        _silence(norm, weights[path.replace('pyramid', 'backbone')][1])
    _measure(backbone, [norm for norm, _ in norms], data)


def _convolutions(name: str) -> dict[str, list[np.ndarray]]:
    """Weight and bias of every convolution of an engine, by the path of its module."""
    graph = onnx.load(resolve_engine(name)[0]).graph
    tensors = {tensor.name.removesuffix('_float16'): numpy_helper.to_array(tensor)
               for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type in ('Conv', 'ConvTranspose'):
            arrays = [tensors[value].astype(np.float32) for value in node.input[1:]]
            found[_module_path(node.name)] = arrays
    return found


def _module_path(node: str) -> str:
    """Path of a node's module: of layer1/layer1.0/conv1/Conv it is layer1.0.conv1."""
    parts = node.strip('/').split('/')[:-1]
    return '.'.join(part for part, after in itertools.zip_longest(parts, parts[1:], fillvalue='')
                    if not after.startswith(part + '.'))


def _fill(
        module: nn.Conv2d | nn.ConvTranspose2d, weights: dict[str, list[np.ndarray]], path: str,
        engine: str) -> None:
    arrays = weights.get(path)
    if arrays is None or arrays[0].shape != tuple(module.weight.shape):
        raise TrainingError(
            f'engine {engine!r} has no convolution {path} of {tuple(module.weight.shape)}; give '
            'one of the compact keypoint_guided')
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(arrays[0]))
        if module.bias is not None:
            module.bias.copy_(torch.from_numpy(arrays[1]))


def _norms(backbone: ScaledPyramid) -> Iterator[tuple[nn.BatchNorm2d, str]]:
    """Every norm, and the path of the convolution whose bias it became in the engine."""
    paths = {module: path for path, module in backbone.named_modules()}
    for module, conv, norm in convolutions_before_norms(backbone):
        yield module.get_submodule(norm), paths[module.get_submodule(conv)]
    for module in backbone.modules():
        if isinstance(module, Rise):
            yield module.norm, paths[module.side]


def _silence(norm: nn.BatchNorm2d, bias: np.ndarray) -> None:
    """Let a norm in evaluation mode add `bias` and nothing else."""
    with torch.no_grad():
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
        norm.bias.copy_(torch.from_numpy(bias))


def _measure(backbone: ScaledPyramid, norms: list[nn.BatchNorm2d], data: Resolutions) -> None:
    """Set the statistics of silent norms to those of the crops, and their gains against them."""
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (_FACTS.mean, _FACTS.std))
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def add(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0].double().transpose(0, 1).flatten(1)
        sums[norm] += torch.stack([torch.full_like(x[:, 0], x.shape[1]), x.sum(1),
                                   x.square().sum(1)])
    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    backbone.eval()
    with torch.no_grad():
        for batch in itertools.islice(data, _BATCHES):
            image = (batch['images'][0].float() - mean) / std
            backbone(image, torch.zeros(len(image), dtype=torch.long))
        for hook in hooks:
            hook.remove()
        for norm, (count, total, squares) in sums.items():
            centre = total / count
            norm.running_mean.copy_(centre)
            norm.running_var.copy_(squares / count - centre.square())
            norm.bias.add_(norm.running_mean)
            norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
    backbone.train()
