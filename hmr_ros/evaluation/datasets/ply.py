# SPDX-License-Identifier: Apache-2.0
"""Vertices of PLY files, text or binary."""

from __future__ import annotations

from pathlib import Path
import re

import numpy as np

from hmr_ros.evaluation.errors import EvaluationError

_TYPES = {'char': 'i1', 'uchar': 'u1', 'short': 'i2', 'ushort': 'u2', 'int': 'i4', 'uint': 'u4',
          'float': 'f4', 'double': 'f8', 'int8': 'i1', 'uint8': 'u1', 'int16': 'i2',
          'uint16': 'u2', 'int32': 'i4', 'uint32': 'u4', 'float32': 'f4', 'float64': 'f8'}
_ORDERS = {'ascii': '', 'binary_little_endian': '<', 'binary_big_endian': '>'}
_END = re.compile(rb'end_header\r?\n')


def read_vertices(path: Path) -> np.ndarray:
    """
    Vertices `(V, 3)` float32 of a file whose first element is `vertex`, which has x, y and z.

    Raises EvaluationError, which names the file, for any other.
    """
    try:
        header, body = _END.split(path.read_bytes(), 1)
        lines = [line.split() for line in header.decode('ascii').splitlines()]
        order = _ORDERS[next(words[1] for words in lines if words[:1] == ['format'])]
        count, kind = _vertex(lines, order)
        table = _rows(body, count, kind) if not order else np.frombuffer(body, kind, count)
        return np.stack([table[axis] for axis in 'xyz'], 1).astype(np.float32)
    except (OSError, ValueError, KeyError, IndexError, StopIteration, TypeError) as error:
        raise EvaluationError(
            f'{path} is not a PLY file of vertices with x, y and z ({error!r}); unpack the '
            "dataset's files again") from error


def _vertex(lines: list[list[str]], order: str) -> tuple[int, np.dtype]:
    """Count and layout of the vertices, the first element."""
    first = next(place for place, words in enumerate(lines) if words[:1] == ['element'])
    if lines[first][1] != 'vertex':
        raise ValueError(f'its first element is {lines[first][1]}')
    fields = []
    for words in lines[first + 1:]:
        if words[:1] == ['element']:
            break
        if words[:1] == ['property']:
            fields.append((words[2], order + _TYPES[words[1]]))
    return int(lines[first][2]), np.dtype(fields)


def _rows(body: bytes, count: int, kind: np.dtype) -> np.ndarray:
    rows = [tuple(map(float, line.split())) for line in body.splitlines()[:count]]
    if len(rows) < count:
        raise ValueError(f'it has {len(rows)} of {count} vertices')
    return np.array([row[:len(kind)] for row in rows], kind)
