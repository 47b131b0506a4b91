# SPDX-License-Identifier: Apache-2.0
"""Pictures of people without a background, many in one file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from hmr_ros.training.synthetic.errors import SyntheticError

_OUTLINE = 32
_Store = TypeVar('_Store', bound='Pictures')


@dataclass(frozen=True)
class Pictures:
    """
    Pictures of N people, each but the part of its window that shows somebody.

    pixels    (P, 4)        uint8, all people one after the other
    starts    (N + 1,)      int64, first pixel of each person
    frames    (N, 4)        int32: x, y of the pixels' first corner in the window, width, height
    size      ()            side of the windows, pixels

    Row i of any other array is person i, but for those of PER_PIXEL, which go with `pixels`.
    """

    PER_PIXEL: ClassVar[tuple[str, ...]] = ('pixels',)

    pixels: np.ndarray
    starts: np.ndarray
    frames: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def image(self, index: int) -> np.ndarray:
        """Pixels `(h, w, 4)` of one person, a view."""
        _, _, width, height = self.frames[index]
        return self.pixels[self.starts[index]:self.starts[index + 1]].reshape(height, width, 4)

    def save(self, path: str | Path) -> None:
        """Write one .npz file."""
        np.savez(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls: type[_Store], path: str | Path) -> _Store:
        """Read a file of `save`; raises SyntheticError when arrays are missing."""
        with np.load(path) as file:
            missing = [f.name for f in fields(cls) if f.name not in file]
            if missing:
                raise SyntheticError(
                    f'{path}: no array {missing[0]}; expected a file of rendered people. Render it '
                    'again')
            return cls(**{f.name: file[f.name] for f in fields(cls)})

    @classmethod
    def join(cls: type[_Store], stores: list[_Store]) -> _Store:
        """Put stores of equal window size together."""
        if len({int(store.size) for store in stores}) != 1:
            raise SyntheticError('stores of different window sizes; render them with one size')
        rows = {f.name: np.concatenate([getattr(s, f.name) for s in stores])
                for f in fields(cls) if f.name not in ('starts', 'size')}
        lengths = np.concatenate([np.diff(store.starts) for store in stores])
        return cls(starts=np.concatenate([[0], np.cumsum(lengths)]), size=stores[0].size, **rows)

    @classmethod
    def of(cls: type[_Store], columns: dict[str, list[np.ndarray]], size: int) -> _Store:
        """Make a store of one list of rows per array."""
        rows = {name: (np.concatenate if name in cls.PER_PIXEL else np.stack)(values)
                for name, values in columns.items()}
        starts = np.concatenate([[0], np.cumsum([len(p) for p in columns['pixels']])])
        return cls(starts=starts, size=np.int64(size), **rows)


@dataclass(frozen=True)
class Cutouts(Pictures):
    """
    Rendered people with their cameras; float32, pixels of their own windows.

    pixels    (P, 4)        R, G, B, part + 1 (0: empty)
    focal     (N,)          focal length, pixels
    centre    (N, 2)        principal point, pixels; may lie far outside the window
    outline   (N, 32, 2)    hull of the visible person
    """

    focal: np.ndarray
    centre: np.ndarray
    outline: np.ndarray


def outermost(points: np.ndarray) -> np.ndarray:
    """Outermost of `points` `(K, 2)` in 32 directions, `(32, 2)`."""
    angles = np.arange(_OUTLINE) / _OUTLINE * 2 * np.pi
    return points[(points @ np.stack([np.cos(angles), np.sin(angles)])).argmax(axis=0)]
