# SPDX-License-Identifier: Apache-2.0
"""
Files of packed networks: one uncompressed .npz, a header in JSON and arrays; no pickle.

Words of bits are uint64, lines of norms and bends float32, other weights float16 or float32.
"""

from __future__ import annotations

from collections.abc import Mapping
import io
import json
from pathlib import Path
from typing import Any
import zipfile

import numpy as np

from hmr_ros.runtime.engine import EngineError

SUFFIX = '.packed.npz'
FORMAT = 1
#: names and shapes of one person's outputs (bidrn sheet, section 1).
OUTPUTS: dict[str, tuple[int, ...]] = {
    'root': (6,), 'body_pose': (126,), 'left_hand': (90,), 'right_hand': (90,), 'jaw': (6,),
    'shape': (10,), 'expression': (10,), 'transl': (3,), 'body_joints': (25, 3),
    'hand_joints': (2, 20, 3), 'centres': (3, 2), 'sizes': (3, 2), 'boxes': (3, 4)}
_HEADER = 'header'
#: arrays of as many numbers are weights, which are stored as float16; lines and biases are not.
_STORED_AS_FLOAT16 = 512


def write_packed(
        path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray],
        weights: str = 'float16') -> None:
    """
    Write a network: `header` goes into JSON; arrays are uint64 or float32.

    weights  'float16' or 'float32', how those that are not bits are stored
    """
    text = json.dumps({'format': FORMAT, **header})
    with open(path, 'wb') as file:
        np.savez(file, **{_HEADER: np.array(text)}, **{
            name: array.astype(weights) if _is_weight(name, array) else array
            for name, array in arrays.items()})


def _is_weight(name: str, array: np.ndarray) -> bool:
    return name.endswith('.weight') and array.size >= _STORED_AS_FLOAT16


class PackedFile:
    """
    A file that was read: its `path` and `header`.

    Raises EngineError when it is no such file, or is damaged.
    """

    def __init__(self, content: bytes, path: Path) -> None:
        self.path = path
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as found:
                self._arrays = {name: found[name] for name in found.files}
            self.header: dict[str, Any] = json.loads(str(self._arrays.pop(_HEADER)))
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise EngineError(
                f'engine file {path} is not a packed network, or is damaged ({error}); export it '
                'again with `hmr export --backend packed`') from error
        if not isinstance(self.header, dict) or self.header.get('format') != FORMAT:
            raise EngineError(
                f'engine file {path} is not of format {FORMAT} of packed networks; export it again '
                'with this version')

    def option(self, name: str) -> Any:
        """Look something up in the header; EngineError when it is not there."""
        if name not in self.header:
            raise EngineError(f'the header of {self.path} lacks {name!r}; export it again')
        return self.header[name]

    def words(self, name: str, *shape: int) -> np.ndarray:
        """Return an array of bits; EngineError when it is missing or of another shape."""
        return self._take(name, shape, ('uint64',))

    def numbers(self, name: str, *shape: int) -> np.ndarray:
        """Return an array of float32; EngineError when it is missing, misshapen or has NaN."""
        found = self._take(name, shape, ('float32', 'float16')).astype(np.float32)
        if np.isnan(found).any():
            raise EngineError(
                f'array {name!r} of {self.path} holds NaN; export it again from sound weights')
        return found

    def _take(self, name: str, shape: tuple[int, ...], kinds: tuple[str, ...]) -> np.ndarray:
        array = self._arrays.get(name)
        if array is None:
            raise EngineError(f'{self.path} lacks the array {name!r}; export it again')
        if array.shape != shape or array.dtype.name not in kinds:
            raise EngineError(
                f'array {name!r} of {self.path} is {array.dtype} {list(array.shape)}; expected '
                f'{kinds[0]} {list(shape)}; export it again')
        return array
