# SPDX-License-Identifier: Apache-2.0
"""The digitizer's networks as the host sees them, and those that engines run (sheet, section 9)."""

from __future__ import annotations

from typing import Mapping, Protocol

import numpy as np

from hmr_ros.perception.crop_reading import DescribedNetwork
from hmr_ros.perception.digitizer.depth import BACK_EMPTY, FRONT_EMPTY
from hmr_ros.perception.digitizer.frame import LOW
from hmr_ros.perception.digitizer.parts import PATCHES, RESOLUTIONS
from hmr_ros.perception.digitizer.tiles import HALO, Window, windows
from hmr_ros.perception.errors import PerceptionError

#: engines by the last part of their names.
ENGINES = ('low', *PATCHES, 'refine')
#: pixels of a tile in which larger images are refined.
TILE = 512
#: front, back and mask of what holds no body.
_EMPTY = np.float32([FRONT_EMPTY, BACK_EMPTY, 0])[:, None, None]


class Networks(Protocol):
    """Networks for one person in an image of `resolution` pixels S; all arrays are float32."""

    resolution: int

    def low(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Map the small image `(3, S / 8, S / 8)`, -1 to 1, to what is seen of everything.

        Returns encoded normals `(6, S / 8, S / 8)`, and `(3, S / 8, S / 8)`: D of front and back,
        and the chance of being foreground.
        """
        ...

    def parts(self, patches: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Map patches `(B, 6, h, w)`, by some of PATCHES, to encoded normals `(B, 6, h, w)`."""
        ...

    def refine(self, pair: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """
        Map D `(2, S / 8, S / 8)` and encoded normals `(6, S, S)` to `(3, S, S)`.

        Returns D of front and back, and the chance of being foreground.
        """
        ...


def refined_side(resolution: int) -> int:
    """Pixels of the square window that the engine `refine` of images of `resolution` takes."""
    return resolution if resolution <= TILE else TILE + 2 * HALO


class EngineNetworks:
    """Networks that engines run; see Networks, and `training.digitizer_2k2k.export`."""

    def __init__(self, engines: Mapping[str, DescribedNetwork]) -> None:
        """
        Take opened engines by the names of ENGINES.

        Raises PerceptionError when one is missing or they were made for different resolutions.
        """
        missing = [name for name in ENGINES if name not in engines]
        if missing:
            raise PerceptionError(
                f'the digitizer has no engine {", ".join(missing)}; export all of them with '
                '`hmr export digitizer_2k2k`')
        self._engines = dict(engines)
        self.resolution = LOW * _side_of(engines['low'], 'image')
        refined = _side_of(engines['refine'], 'normals')
        if self.resolution not in RESOLUTIONS or refined != refined_side(self.resolution):
            raise PerceptionError(
                f'the digitizer\'s engine low is for images of {self.resolution} pixels and refine '
                f'for windows of {refined}; expected one of {", ".join(map(str, RESOLUTIONS))} and '
                'the window of the same export. Export all engines again from one weights file')

    def low(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See Networks."""
        found = self._engines['low'].run({'image': image[None]})
        return found['normals'][0], found['depth'][0]

    def parts(self, patches: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See Networks."""
        return {name: self._engines[name].run({'patch': batch})['normals']
                for name, batch in patches.items()}

    def refine(self, pair: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """See Networks; in tiles where the image is larger than one, without those of no body."""
        side = normals.shape[1]
        refined = np.empty((3, side, side), np.float32)
        across = windows(side, min(side, TILE))
        for rows in across:
            for columns in across:
                refined[:, rows.kept, columns.kept] = self._tile(pair, normals, rows, columns)
        return refined

    def _tile(
            self, pair: np.ndarray, normals: np.ndarray, rows: Window,
            columns: Window) -> np.ndarray:
        seen = pair[:, _low(rows.seen), _low(columns.seen)]
        if (seen == _EMPTY[:2]).all():
            return _EMPTY
        found = self._engines['refine'].run({
            'pair': np.ascontiguousarray(seen[None]),
            'normals': np.ascontiguousarray(normals[None, :, rows.seen, columns.seen])})
        return found['depth'][0][:, rows.inner, columns.inner]


def _low(pixels: slice) -> slice:
    return slice(pixels.start // LOW, pixels.stop // LOW)


def _side_of(engine: DescribedNetwork, name: str) -> int:
    """Side in pixels of an engine's square input."""
    shapes = {tensor.name: tuple(tensor.shape) for tensor in engine.inputs}
    if len(shapes.get(name, ())) != 4:
        raise PerceptionError(
            f'engine {engine.name!r} has the inputs {shapes}; expected {name} with four axes. '
            'Export it with `hmr export digitizer_2k2k`')
    return shapes[name][-1]
