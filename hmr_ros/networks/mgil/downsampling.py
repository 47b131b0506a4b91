# SPDX-License-Identifier: Apache-2.0
"""Puts one kind of downsampling into a host network, under the names that the host has."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from hmr_ros.networks.mgil.block import (
    Activation, DepthControl, Lossless, SpaceToChannelConv)
from hmr_ros.networks.resnet import ChannelPool

CHOICES: dict[str, tuple[str, ...]] = {
    'kind': ('strided', 'spd', 'flie', 'mgil', 'control'), 'fusion': ('mgaf', 'add'),
    'gate': ('eca', 'pointwise'), 'scope': ('all', 'lite')}
#: HRNet's layers between branches, which the scope lite leaves strided.
_EXCHANGE = 'fuse_layers'


@dataclass(frozen=True)
class Downsampling:
    """
    How a network halves its maps.

    kind    strided: as the host does; spd: SPD-Conv; flie: the fine half of the block; mgil: the
            block; control: as many plain convolutions as the block has
    n_flie  convolutions of the fine half, 1 to 3
    n_cii   convolutions of the coarse half behind the dilated ones, 1 to 3; of mgil and control
    fusion  mgaf: weighted by the gate; add: plainly; of mgil
    gate    eca or pointwise, see `block.Gate`; of mgil
    scope   all: every strided convolution wider than 1x1 and every max pool of stride 2; lite: only
            those outside HRNet's exchanges, that is stem and transitions
    """

    kind: str = 'mgil'
    n_flie: int = 2
    n_cii: int = 2
    fusion: str = 'mgaf'
    gate: str = 'eca'
    scope: str = 'all'

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f'{name} of the downsampling is {getattr(self, name)!r}; allowed: '
                                 f'{", ".join(allowed)}')
        for name in ('n_flie', 'n_cii'):
            if getattr(self, name) not in (1, 2, 3):
                raise ValueError(f'{name} of the downsampling is {getattr(self, name)!r}; allowed: '
                                 '1, 2, 3')

    def layer(self, channels: int, out: int, activation: Activation) -> nn.Module:
        """Build a layer that takes the place of a strided convolution; not of the kind strided."""
        if self.kind == 'spd':
            return SpaceToChannelConv(channels, out)
        if self.kind == 'control':
            return DepthControl(channels, out, activation, self.n_flie, self.n_cii)
        coarse = self.n_cii if self.kind == 'mgil' else 0
        gate = self.gate if self.fusion == 'mgaf' else None
        return Lossless(channels, out, activation, self.n_flie, coarse, gate)


STRIDED = Downsampling('strided')
#: rows of the sheet's tables by name, for programs.
NAMED: dict[str, Downsampling] = {
    'strided': STRIDED,
    'spd': Downsampling('spd'),
    'flie': Downsampling('flie'),
    'flie3': Downsampling('flie', n_flie=3),
    'add21': Downsampling(n_cii=1, fusion='add'),
    'add': Downsampling(fusion='add'),
    'mgil': Downsampling(),
    'mgil33': Downsampling(n_flie=3, n_cii=3),
    'pointwise': Downsampling(gate='pointwise'),
    'lite': Downsampling(scope='lite'),
    'control': Downsampling('control'),
    'control_lite': Downsampling('control', scope='lite')}


def strided_layers(host: nn.Module, scope: str = 'all') -> list[str]:
    """Name the layers of a strided host that another kind of downsampling replaces."""
    return [name for name, module in host.named_modules() if _halves(module)
            and not (scope == 'lite' and _EXCHANGE in name)]


def _halves(module: nn.Module) -> bool:
    if isinstance(module, ChannelPool):
        return True
    return (isinstance(module, nn.Conv2d) and module.stride == (2, 2)
            and module.kernel_size[0] > 1)


def replace_downsampling(
        host: nn.Module, downsampling: Downsampling, activation: Activation = nn.ReLU) -> list[str]:
    """
    Replace the strided layers of a host by `downsampling`, in place; returns their names.

    activation  the host's. Norms and activations behind the layers stay the host's own.
    """
    if downsampling.kind == 'strided':
        return []
    names = strided_layers(host, downsampling.scope)
    for name in names:
        layer = host.get_submodule(name)
        if isinstance(layer, ChannelPool):
            channels = out = layer.channels
        else:
            channels, out = layer.in_channels, layer.out_channels
        put(host, name, downsampling.layer(channels, out, activation))
    return names


def put(host: nn.Module, name: str, layer: nn.Module) -> None:
    """Put `layer` where the host has the module `name`."""
    parent, _, child = name.rpartition('.')
    setattr(host.get_submodule(parent), child, layer)
