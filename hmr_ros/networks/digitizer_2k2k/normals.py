# SPDX-License-Identifier: Apache-2.0
"""The network of normals: of body parts, and of the whole image made small (sheet, 3.1)."""

from __future__ import annotations

import torch
from torch import nn

from hmr_ros.networks.digitizer_2k2k.blocks import Decoder, encode, encoder_of
from hmr_ros.networks.digitizer_2k2k.variants import Variant

_WIDTHS = (64, 128, 256, 512)
#: three numbers for the front and three for the back.
NORMALS = 6


class NormalNet(Decoder):
    """
    AU-Net: a U-Net with attention gates.

    Maps `(N, channels, H, W)`, H and W multiples of 8, to encoded normals `(N, 6, H, W)`, front
    and back, of 0 or more: background is 0, and what lies above 1 is for the reader to clip.
    """

    def __init__(self, channels: int, variant: Variant) -> None:
        widths = tuple(variant.channels(width) for width in _WIDTHS)
        super().__init__(widths[-1], widths[:-1])
        for level, block in enumerate(encoder_of(channels, widths), start=1):
            setattr(self, f'encoder{level}', block)
        self.head = nn.Conv2d(widths[0], NORMALS, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See NormalNet."""
        return torch.relu(self.head(self.features(image)))

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Return the map that `head` reads, of the same input."""
        *skips, deepest = encode(image, [
            getattr(self, f'encoder{level}') for level in range(1, self.levels + 2)])
        return self.decode(deepest, skips)
