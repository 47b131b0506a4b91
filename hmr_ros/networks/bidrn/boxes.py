# SPDX-License-Identifier: Apache-2.0
"""Where hands and face are, binary for the larger part (sheet, section 2.5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from hmr_ros.networks.bidrn.binarization import BinaryDeconv2d, BinaryLinear
from hmr_ros.networks.bidrn.decoders import sampled, soft_argmax
from hmr_ros.networks.bidrn.layout import BODY_JOINTS, BOXES, DEPTH, Plan
from hmr_ros.networks.bidrn.variants import Variant


class PartBoxes(NamedTuple):
    """
    Boxes of left hand, right hand and face, in cells of the body's heat-maps.

    centres  (N, 3, 2)  x, y
    sizes    (N, 3, 2)  width, height
    """

    centres: torch.Tensor
    sizes: torch.Tensor


class BoxNet(nn.Module):
    """The body's map and its joints' probabilities to PartBoxes."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        binary = variant.boxes == 'binary'
        self._shifts = binary
        self._scale = 4 if variant.box_deconv3 == 'none' else 8
        self.deconv = nn.Sequential(*_rises(variant))
        width = variant.sizes.box_width
        self.bbox_center = nn.Sequential(nn.Conv2d(width, len(BOXES), 1))
        first = BinaryLinear if binary else nn.Linear
        for part in BOXES:
            setattr(self, f'{part}_size', nn.Sequential(
                first(width, width), nn.ReLU(), nn.Linear(width, 2)))

    def forward(self, feature: torch.Tensor, likely: torch.Tensor) -> PartBoxes:
        """Read `feature` `(N, C, H, W)` and probabilities `(N, 25, 8, H, W)`."""
        likely = likely.detach()
        if self._shifts:
            likely = around_uniform(likely)
        maps = self.deconv(torch.cat([feature, likely.flatten(1, 2)], 1))
        places, _ = soft_argmax(self.bbox_center(maps)[:, :, None])
        centres = places[..., :2]
        read = sampled(maps, centres.detach())
        sizes = torch.stack([
            getattr(self, f'{part}_size')(read[:, row]) for row, part in enumerate(BOXES)], 1)
        return PartBoxes(centres / self._scale, sizes)


def around_uniform(likely: torch.Tensor) -> torch.Tensor:
    """Shift probabilities `(N, J, D, H, W)`: their signs say what is likelier than the mean."""
    return likely[0, 0].numel() * likely - 1


def _rises(variant: Variant) -> list[nn.Module]:
    """Deconvolutions, each with its norm and what follows it, in the published slots."""
    kinds = [variant.boxes] * 2
    if variant.box_deconv3 != 'none':
        kinds.append(variant.box_deconv3)
    channels = _entering(variant.sizes)
    width = variant.sizes.box_width
    layers: list[nn.Module] = []
    # What is read as signs, by a deconvolution or by the sizes, must not be >= 0 throughout.
    for number, (kind, after) in enumerate(zip(kinds, [*kinds[1:], variant.boxes])):
        build = BinaryDeconv2d if kind == 'binary' else _plain_deconv
        layers += [build(width if number else channels, width), nn.BatchNorm2d(width),
                   nn.Identity() if after == 'binary' else nn.ReLU()]
    return layers


def _entering(sizes: Plan) -> int:
    """Channels of the body's map and of all probabilities."""
    return sizes.body_net.channels + len(BODY_JOINTS) * DEPTH


def _plain_deconv(channels: int, out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, out, 4, 2, 1, bias=False)
