# SPDX-License-Identifier: Apache-2.0
"""Sizes of the networks (sheet, sections 2 and 3)."""

from __future__ import annotations

from dataclasses import dataclass

from hmr_ros.perception.digitizer.parts import RESOLUTIONS

#: channels of the narrowest layers at width 1: every width is a whole number of them.
_NARROWEST = 32


@dataclass(frozen=True)
class Variant:
    """
    Which networks.

    resolution  side in pixels of the square image, of RESOLUTIONS; layers are the same for all of
                them, but weights serve the one they were trained for alone (sheet, 8.17)
    width       channels as a multiple of the published ones, in steps of 1/32
    """

    resolution: int = 2048
    width: float = 1.0

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise ValueError(f'resolution of digitizer_2k2k is {self.resolution}; allowed: '
                             f'{", ".join(map(str, RESOLUTIONS))}')
        narrowest = self.width * _NARROWEST
        if narrowest < 1 or narrowest != int(narrowest):
            raise ValueError(f'width of digitizer_2k2k is {self.width:g}; expected a multiple of '
                             f'1/{_NARROWEST} above 0')

    def channels(self, published: int) -> int:
        """Return how many channels a layer of `published` ones has here."""
        return int(published * self.width)


#: small enough to be shipped: below 40 MB in float16.
NARROW = Variant(512, 0.5)
