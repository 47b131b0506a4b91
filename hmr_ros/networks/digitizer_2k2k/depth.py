# SPDX-License-Identifier: Apache-2.0
"""Depth of front and back at an eighth of the resolution (sheet, 3.3)."""

from __future__ import annotations

import torch
from torch import nn

from hmr_ros.networks.digitizer_2k2k.blocks import Decoder, encode, encoder_of
from hmr_ros.networks.digitizer_2k2k.normals import NORMALS
from hmr_ros.networks.digitizer_2k2k.variants import Variant
from hmr_ros.perception.digitizer.depth import BACK_EMPTY, FRONT_EMPTY

_WIDTHS = (32, 64, 128, 256, 512)
#: front, back, mask.
DEPTHS = 3
#: a mask up to here is background.
_MASK = 0.5


class LowDepthNet(Decoder):
    """Two encoders, of image and normals, whose maps are joined at every level of one decoder."""

    def __init__(self, variant: Variant) -> None:
        widths = tuple(variant.channels(width) for width in _WIDTHS)
        super().__init__(2 * widths[-1], tuple(2 * width for width in widths[:-1]))
        for name, channels in (('image', 3), ('normal', NORMALS)):
            for level, block in enumerate(encoder_of(channels, widths), start=1):
                setattr(self, f'{name}_encoder{level}', block)
        self.head = nn.Conv2d(2 * widths[0], DEPTHS, 1)

    def forward(self, image: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        """
        Map image `(N, 3, H, W)` and normals `(N, 6, H, W)` to `(N, 3, H, W)`.

        Depths D of front and back, 0 to 6, and the chance of being foreground. H and W are
        multiples of 16.
        """
        return depths(self.head(self.features(image, normals)))

    def features(self, image: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        """Return the map that `head` reads, of the same inputs."""
        both = [encode(x, [getattr(self, f'{name}_encoder{level}')
                           for level in range(1, self.levels + 2)])
                for name, x in (('image', image), ('normal', normals))]
        *skips, deepest = [torch.cat(maps, 1) for maps in zip(*both)]
        return self.decode(deepest, skips)


def depths(logits: torch.Tensor) -> torch.Tensor:
    """Map `(N, 3, H, W)` to depths D of front and back, 0 to 6, and a mask, 0 to 1."""
    return torch.cat([nn.functional.relu6(logits[:, :2]), torch.sigmoid(logits[:, 2:])], 1)


def emptied(depth: torch.Tensor) -> torch.Tensor:
    """Take both depths `(N, 2, H, W)` of `(N, 3, H, W)`; empty where the mask is 0.5 or less."""
    empty = depth.new_tensor([FRONT_EMPTY, BACK_EMPTY])[None, :, None, None]
    return torch.where(depth[:, 2:] > _MASK, depth[:, :2], empty)
