# SPDX-License-Identifier: Apache-2.0
"""Windows in which the depth of a large image is refined piece by piece (sheet, section 9)."""

from __future__ import annotations

from dataclasses import dataclass

from hmr_ros.perception.errors import PerceptionError

#: pixels around a tile that the network must see for its result to be exact.
HALO = 24
_STEP = 8


@dataclass(frozen=True)
class Window:
    """
    Pixels along one axis.

    seen  what the network is given, on multiples of 8
    kept  the tile, which it is right about
    """

    seen: slice
    kept: slice

    @property
    def inner(self) -> slice:
        """Where the kept pixels lie among the seen ones."""
        return slice(self.kept.start - self.seen.start, self.kept.stop - self.seen.start)


def windows(side: int, tile: int) -> list[Window]:
    """Cut `side` pixels into tiles of `tile`, all seen windows alike; both multiples of 8."""
    if tile <= 0 or side % _STEP or tile % _STEP or side % tile:
        raise PerceptionError(
            f'tiles of {tile} pixels do not fill a side of {side}; expected multiples of {_STEP}, '
            'and the side a multiple of the tile')
    length = min(side, tile + 2 * HALO)
    starts = range(0, side, tile)
    seen = [min(max(start - HALO, 0), side - length) for start in starts]
    return [Window(slice(first, first + length), slice(start, start + tile))
            for first, start in zip(seen, starts)]
