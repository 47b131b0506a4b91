# SPDX-License-Identifier: Apache-2.0
"""
Blocks that begin as the trained layers they replace (sheet, section 3, optional warm start).

A strided kernel is embedded exactly in the rearrangement and its first convolution. What follows in
a block begins as the identity on what comes out of a ReLU, the coarse half begins small, and norms
take the statistics of real crops, so that the network sees people from the first step on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import copy

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.folding import convolutions_before_norms
from hmr_ros.networks.mgil import PoseNetwork
from hmr_ros.networks.mgil.block import (
    ConvNorm, DepthControl, Lossless, SpaceToChannelConv)
from hmr_ros.networks.mgil.downsampling import Downsampling, replace_downsampling
from hmr_ros.networks.resnet import ChannelPool
from hmr_ros.training.engine_start import measure, silence
from hmr_ros.training.mgil.warm_start import embedded_kernel

#: gain of the coarse half's last norm; 0 would leave its ReLU dead for good.
_FAINT = 0.1


def take_over(
        network: PoseNetwork, downsampling: Downsampling, run: Callable[[], None]) -> None:
    """
    Replace the strided layers of a trained network in place, each block beginning as its layer.

    run  runs the network, in evaluation mode, on crops as it will see them

    Exact for SPD behind 3x3 kernels; of a 7x7 kernel the first row and column are lost, a max pool
    becomes a mean with the max's spread, and other blocks lose what is negative behind norms that
    no ReLU follows, as in HRNet's exchanges.
    """
    before, pooled = copy.deepcopy(network), _pooled(network, run)
    norms = {module.get_submodule(conv): module.get_submodule(norm)
             for module, conv, norm in convolutions_before_norms(before)}
    paths = {module: path for path, module in before.named_modules()}
    settled: list[nn.BatchNorm2d] = []
    for name in replace_downsampling(network, downsampling):
        layer, host = network.get_submodule(name), before.get_submodule(name)
        if isinstance(host, ChannelPool):
            settled += _as_pool(layer, host, *pooled)
        else:
            settled += _as_convolution(layer, host, network.get_submodule(paths[norms[host]]))
    measure(network, settled, run)


def _pooled(network: nn.Module, run: Callable[[], None]) -> tuple[torch.Tensor, ...]:
    """
    Gain and offset `(C,)` that give means over a pool's window the spread of its maxima.

    Nothing for networks without a pool.
    """
    seen: list[torch.Tensor] = []

    def note(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        mean = functional.avg_pool2d(inputs[0], 3, 2, 1)
        seen.append(torch.stack([mean.transpose(0, 1).flatten(1),
                                 output.transpose(0, 1).flatten(1)]))
    pools = [module for module in network.modules() if isinstance(module, ChannelPool)]
    if not pools:
        return ()
    hooks = [pool.register_forward_hook(note) for pool in pools]
    network.eval()
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    (mean, most), (spread, wide) = (x.unbind(0) for x in _moments(torch.cat(seen, -1)))
    gain = wide / spread.clamp(min=1e-6)
    return gain, most - gain * mean


def _moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return values.mean(-1), values.std(-1)


def _set(conv: nn.Conv2d, weight: torch.Tensor) -> None:
    with torch.no_grad():
        conv.weight.copy_(weight)


def _as_convolution(
        layer: nn.Module, host: nn.Conv2d, norm: nn.BatchNorm2d) -> list[nn.BatchNorm2d]:
    """Begin as a convolution with the norm behind it; returns the norms that are to be measured."""
    kernel = host.weight.detach()
    if isinstance(layer, SpaceToChannelConv):
        _set(layer.conv, embedded_kernel(kernel))
        return []
    first, *rest = _fine(layer)
    plain = isinstance(layer, DepthControl)
    _set(first.conv, _narrow(kernel) if plain else embedded_kernel(kernel))
    first.bn.load_state_dict(norm.state_dict())
    # All that the host's norm did is done; behind the block it undoes the gate alone.
    silence(norm, gain=_share(layer))
    return [norm, *_pass_on(layer, rest)]


def _as_pool(
        layer: nn.Module, host: ChannelPool, gain: torch.Tensor, offset: torch.Tensor
        ) -> list[nn.BatchNorm2d]:
    """Begin as a pool; no norm follows, so the block's own last one has to stretch its means."""
    kernel = torch.eye(host.channels)[..., None, None].expand(-1, -1, 3, 3) / 9
    if isinstance(layer, SpaceToChannelConv):
        _set(layer.conv, embedded_kernel(kernel * gain[:, None, None, None]))
        return []
    first, *rest = _fine(layer)
    _set(first.conv, kernel if isinstance(layer, DepthControl) else embedded_kernel(kernel))
    silence(first.bn)
    norms = [first.bn, *_pass_on(layer, rest)]
    last = (rest[-1] if rest else first).bn
    silence(last, _share(layer) * offset, _share(layer) * gain)
    return norms


def _fine(layer: nn.Module) -> nn.Sequential:
    return layer.fine if isinstance(layer, DepthControl) else layer.flie


def _narrow(kernel: torch.Tensor) -> torch.Tensor:
    """Middle 3x3 of a kernel."""
    edge = (kernel.shape[-1] - 3) // 2
    return kernel[..., edge:edge + 3, edge:edge + 3]


def _share(layer: nn.Module) -> float:
    """How much larger than it should be what a block gives must become: its gate halves it."""
    return 2.0 if isinstance(layer, Lossless) and layer.mgaf is not None else 1.0


def _pass_on(layer: nn.Module, rest: Sequence[ConvNorm]) -> list[nn.BatchNorm2d]:
    """Let the rest of the fine half change nothing, and the coarse half add little."""
    for unit in rest:
        nn.init.dirac_(unit.conv.weight)
        silence(unit.bn)
    coarse = layer.coarse if isinstance(layer, DepthControl) else layer.cii
    if coarse is not None:
        nn.init.constant_(coarse[-1].bn.weight, _FAINT)
    return [unit.bn for unit in rest]
