# SPDX-License-Identifier: Apache-2.0
"""The networks as engines run them: folded norms and rearrangements (sheet, section 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import copy
from typing import TypeVar

import torch
from torch import nn

from hmr_ros.networks.folding import fold_norms
from hmr_ros.networks.mgil.block import (
    channel_to_space, Gate, Lossless, space_to_channel, SpaceToChannel, SpaceToChannelConv)
from hmr_ros.networks.mgil.detector import decode, Detections, Detector
from hmr_ros.networks.mgil.downsampling import put

Network = TypeVar('Network', bound=nn.Module)
#: what the gates of a network give on average, `(2,)`, by the names of their modules.
GateMeans = Mapping[str, torch.Tensor]


class FixedGate(nn.Module):
    """Gives the same weights `(1, 2)` for every picture."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer('weights', weights.detach().reshape(1, 2).clone())

    def forward(self, _fine: torch.Tensor, _coarse: torch.Tensor) -> torch.Tensor:
        """See Gate."""
        return self.weights


class DetectorEngine(nn.Module):
    """The deployable detector with its decoding: picture to Detections."""

    def __init__(self, network: Detector, gates: GateMeans | None = None) -> None:
        super().__init__()
        self.network = deployable(network, gates)

    def forward(self, image: torch.Tensor) -> Detections:
        """Map pictures `(N, 3, H, W)`."""
        return decode(self.network(image))


def deployable(network: Network, gates: GateMeans | None = None) -> Network:
    """
    Return a copy in evaluation mode with the exact simplifications of the sheet.

    gates  weights to freeze every gate at, see `gate_means`; not exact. Gates stay when left out

    Same inputs and outputs to rounding, for pictures whose maps all have even sizes before they
    are halved, as those of 32, 64, ... pixels have.
    """
    network = copy.deepcopy(network).requires_grad_(False)
    for name, module in gates_of(network) if gates is not None else ():
        put(network, name, FixedGate(gates[name]).to(module.fc.weight.device))
    fold_blocks(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, SpaceToChannelConv):
            put(network, name, folded_conv(module.conv))
    fold_norms(network.eval())
    return network


def fold_blocks(network: nn.Module) -> None:
    """
    Replace the rearrangement and first convolution of every lossless block by one, in place.

    Its numbers are the same in another order, so that training goes the same way, a third faster;
    `unfolded_state` gives them back.
    """
    for module in network.modules():
        if isinstance(module, Lossless) and isinstance(module.sct, SpaceToChannel):
            module.flie[0].conv = folded_conv(module.flie[0].conv)
            module.sct = nn.Identity()


def unfolded_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict that a network had if its blocks were not folded."""
    state = network.state_dict()
    for name, module in network.named_modules():
        if isinstance(module, Lossless) and not isinstance(module.sct, SpaceToChannel):
            key = f'{name}.flie.0.conv.weight'
            state[key] = space_to_channel(state[key])
    return state


def folded_conv(conv: nn.Conv2d) -> nn.Conv2d:
    """
    Return the 6x6 convolution of stride 2 that equals `space_to_channel` and then `conv`.

    The rearrangement of a kernel's channels and taps is the one of a map's channels and pixels.
    """
    folded = nn.Conv2d(conv.in_channels // 4, conv.out_channels, 6, 2, 2, bias=False)
    folded.weight = nn.Parameter(
        channel_to_space(conv.weight.detach()), requires_grad=conv.weight.requires_grad)
    return folded


def gate_means(network: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean weights `(2,)` of every gate over calibration pictures `(N, 3, H, W)`, by name."""
    found: dict[str, torch.Tensor] = {}
    network = network.eval()

    def keep(name: str) -> object:
        return lambda _module, _inputs, weights: found.__setitem__(name, weights.mean(0))

    hooks = [module.register_forward_hook(keep(name)) for name, module in gates_of(network)]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def gates_of(network: nn.Module) -> Iterator[tuple[str, Gate]]:
    """Yield the gates of a network and their names."""
    for name, module in list(network.named_modules()):
        if isinstance(module, Gate):
            yield name, module
