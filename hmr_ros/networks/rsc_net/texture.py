# SPDX-License-Identifier: Apache-2.0
"""The texture network: a small picture of a person in, the colours of all skin out (sheet 2.6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.digitizer_2k2k.blocks import double, encode, encoder_of

#: height and width in pixels of the picture it takes.
IMAGE_SIZE = (128, 64)
#: side of the texture.
TEXTURE_SIZE = 128
GLOBAL_CONTEXTS = ('none', 'sum', 'concatenation')
_WIDTHS = (64, 128, 256, 512, 512)
#: the encoder halves its input once before each level but the first.
_REDUCTION = 2 ** (len(_WIDTHS) - 1)
_REDUCED = 64
_HIDDEN = 1024


@dataclass(frozen=True)
class TextureVariant:
    """
    Which texture network; the default is the published one, `BASELINE` what it is compared with.

    global_context    how the global context module joins the deepest map, of GLOBAL_CONTEXTS
    extra_upsampling  whether a stage of twice the resolution comes before the last layer
    """

    global_context: str = 'sum'
    extra_upsampling: bool = True

    def __post_init__(self) -> None:
        if self.global_context not in GLOBAL_CONTEXTS:
            raise ValueError(f'global_context of rsc_texture is {self.global_context!r}; allowed: '
                             f'{", ".join(GLOBAL_CONTEXTS)}')


BASELINE = TextureVariant('none', False)


class GlobalContext(nn.Module):
    """
    What every place of a map may know of all others, as a map of the same shape.

    The mean of the map and its flattened reduction pass two full layers together. The last
    convolution starts at zero: an untrained module adds nothing.
    """

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        """Set it up for maps `(N, channels, *size)`."""
        super().__init__()
        flat = _REDUCED * size[0] * size[1]
        self.reduce = nn.Conv2d(channels, _REDUCED, 1)
        self.fc1 = nn.Linear(channels + flat, _HIDDEN)
        self.fc2 = nn.Linear(_HIDDEN, flat)
        self.unflatten = nn.Unflatten(1, (_REDUCED, *size))
        self.expand = nn.Conv2d(_REDUCED, channels, 1)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to the same shape."""
        seen = torch.cat([x.mean((2, 3)), self.reduce(x).flatten(1)], 1)
        known = self.fc2(functional.relu(self.fc1(seen)))
        return self.expand(self.unflatten(known))


class RscTexture(nn.Module):
    """
    A U-Net whose lowest map sees the whole picture through `GlobalContext`.

    Sizes of the module and its place are this package's choice, as the sheet's table says; what is
    concatenated passes into the first stage up without a layer of its own.
    """

    def __init__(self, variant: TextureVariant = TextureVariant()) -> None:
        super().__init__()
        self.variant = variant
        self.encoder = nn.ModuleList(encoder_of(3, _WIDTHS))
        deepest = _WIDTHS[-1]
        self.context = None if variant.global_context == 'none' else GlobalContext(
            deepest, (IMAGE_SIZE[0] // _REDUCTION, IMAGE_SIZE[1] // _REDUCTION))
        below = 2 * deepest if variant.global_context == 'concatenation' else deepest
        self.decoder = nn.ModuleList()
        # Each stage leaves as many channels as the skip connection of the next one has.
        for skip, out in zip(_WIDTHS[-2::-1], (*_WIDTHS[-3::-1], _WIDTHS[0])):
            self.decoder.append(double(skip + below, out))
            below = out
        self.extra = double(below, below) if variant.extra_upsampling else None
        self.head = nn.Conv2d(below, 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map RGB in -1..1 `(N, 3, 128, 64)` to the texture `(N, 3, 128, 128)`, RGB in -1..1."""
        maps = encode(image, list(self.encoder))
        x = self._with_context(maps[-1])
        for stage, skip in zip(self.decoder, maps[-2::-1]):
            x = stage(torch.cat([skip, _twice(x)], 1))
        if self.extra is not None:
            x = self.extra(_twice(x))
        colours = torch.tanh(self.head(x))
        return functional.interpolate(
            colours, (TEXTURE_SIZE, TEXTURE_SIZE), mode='bilinear', align_corners=False)

    def _with_context(self, x: torch.Tensor) -> torch.Tensor:
        if self.context is None:
            return x
        context = self.context(x)
        if self.variant.global_context == 'sum':
            return x + context
        return torch.cat([x, context], 1)


def _twice(x: torch.Tensor) -> torch.Tensor:
    """Double the resolution of `(N, C, H, W)`, corner pixels staying at the corners."""
    return functional.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)
