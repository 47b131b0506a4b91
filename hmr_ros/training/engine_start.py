# SPDX-License-Identifier: Apache-2.0
"""Begins a network as a trained engine of the compact keypoint_guided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
import itertools

import numpy as np
import onnx
from onnx import numpy_helper
import torch
from torch import nn

from hmr_ros.networks.folding import convolutions_before_norms
from hmr_ros.networks.keypoint_guided.pyramid import Rise
from hmr_ros.runtime import resolve_engine
from hmr_ros.training.errors import TrainingError


def start_as_engine(
        network: nn.Module, engine: str, paths: Mapping[str, str],
        run: Callable[[], None]) -> None:
    """
    Give convolutions the weights of an engine, with norms that change nothing at first.

    paths  where convolutions of `network` are in the engine, by where they are here; the first
           part of a path, of all below it
    run    runs the network, in evaluation mode, on crops as it will see them

    An engine has its norms inside its convolutions. They come back with the statistics of the crops
    and the gains that undo them, so that training sees norms as always. Raises TrainingError when
    the engine is not one of the compact keypoint_guided.
    """
    weights, biases = _convolutions(engine), {}
    for path, module in network.named_modules():
        theirs = _renamed(path, paths)
        if theirs is not None and isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            _fill(module, weights, theirs, engine)
            biases.update({module: bias for bias in weights[theirs][1:]})
    norms = {norm: biases[conv] for norm, conv in _norms(network) if conv in biases}
    for norm, bias in norms.items():
        silence(norm, bias)
    measure(network, norms, run)


def _renamed(path: str, paths: Mapping[str, str]) -> str | None:
    """Path in the engine, None where it has none."""
    first, _, rest = path.partition('.')
    return '.'.join(filter(None, (paths[first], rest))) if first in paths else None


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


def _norms(network: nn.Module) -> Iterator[tuple[nn.BatchNorm2d, nn.Module]]:
    """Every norm, and the convolution whose bias it became in an engine."""
    for module, conv, norm in convolutions_before_norms(network):
        yield module.get_submodule(norm), module.get_submodule(conv)
    for module in network.modules():
        if isinstance(module, Rise):
            yield module.norm, module.side


def silence(
        norm: nn.BatchNorm2d, bias: np.ndarray | torch.Tensor | float = 0.0,
        gain: torch.Tensor | float = 1.0) -> None:
    """Let a norm in evaluation mode multiply by `gain` and add `bias`, and nothing else."""
    with torch.no_grad():
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.copy_(torch.as_tensor(gain))
        norm.bias.copy_(torch.as_tensor(bias))


def measure(
        network: nn.Module, norms: Iterable[nn.BatchNorm2d], run: Callable[[], None]) -> None:
    """
    Set the statistics of silent norms to those of the crops that `run` shows, and their gains
    against them, so that they do in evaluation mode what they did.
    """
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def add(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0].double().transpose(0, 1).flatten(1)
        sums[norm] += torch.stack([torch.full_like(x[:, 0], x.shape[1]), x.sum(1),
                                   x.square().sum(1)])
    hooks = [norm.register_forward_pre_hook(add) for norm in sums]
    network.eval()
    with torch.no_grad():
        run()
        for hook in hooks:
            hook.remove()
        for norm, (count, total, squares) in sums.items():
            centre = total / count
            norm.running_mean.copy_(centre)
            norm.running_var.copy_(squares / count - centre.square())
            norm.bias.addcmul_(norm.weight, norm.running_mean)
            norm.weight.mul_(torch.sqrt(norm.running_var + norm.eps))
    network.train()
