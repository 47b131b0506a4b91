# SPDX-License-Identifier: Apache-2.0
"""Tables of pandas in their pickles, read without pandas and without running anything."""

from __future__ import annotations

from pathlib import Path
import pickle
from typing import Any

import numpy as np

from hmr_ros.body.unpickle import load_records, Record
from hmr_ros.evaluation.errors import EvaluationError

#: how pandas writes what its blocks hold since 0.14.
_STATE = '0.14.1'


class _Frame(Record):
    """A pandas.DataFrame; its manager is `_mgr`, `_data` before pandas 1.1."""


class _Manager(Record):
    """A BlockManager: state of before pandas 1.3, or (blocks, axes)."""


class _Placement(Record):
    """A BlockPlacement of columns."""


def _index(kind: Any, content: dict[str, Any]) -> dict[str, Any]:
    del kind
    return content


def _block(values: np.ndarray, places: Any, *_: Any) -> dict[str, Any]:
    return {'values': values, 'mgr_locs': places}


def _from_buffer(content: Any, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(content, dtype).reshape(shape, order=order)


_ALLOWED: dict[tuple[str, str], Any] = {
    ('pandas.core.frame', 'DataFrame'): _Frame,
    ('pandas.core.internals.managers', 'BlockManager'): _Manager,
    ('pandas._libs.internals', 'BlockPlacement'): _Placement,
    ('pandas._libs.internals', '_unpickle_block'): _block,
    ('pandas.core.internals.blocks', 'new_block'): _block,
    ('pandas.core.indexes.base', '_new_Index'): _index,
    ('builtins', 'slice'): slice, ('__builtin__', 'slice'): slice,
    ('numpy.core.numeric', '_frombuffer'): _from_buffer,
    ('numpy._core.numeric', '_frombuffer'): _from_buffer}
for _module, _name in (('base', 'Index'), ('range', 'RangeIndex'), ('numeric', 'Int64Index')):
    _ALLOWED[f'pandas.core.indexes.{_module}', _name] = Record


def read_frame(path: Path) -> dict[str, np.ndarray]:
    """
    Columns of a pickled DataFrame, by their names.

    Raises EvaluationError, which names the file, when it cannot be read, holds something else, or
    asks for more than a table of arrays.
    """
    try:
        frame = load_records(path.read_bytes(), _ALLOWED)
        if not isinstance(frame, _Frame):
            raise TypeError(f'it holds a {type(frame).__name__}')
        return _columns(frame)
    except (OSError, pickle.UnpicklingError, KeyError, IndexError, TypeError, ValueError) as error:
        raise EvaluationError(
            f'{path} is refused: {error}; expected a table of pandas as the dataset comes with'
            ) from error


def _columns(frame: _Frame) -> dict[str, np.ndarray]:
    manager = frame.state['_mgr' if '_mgr' in frame.state else '_data']
    # Before pandas 1.3 managers were made without arguments.
    if getattr(manager, 'args', ()):
        blocks, axes = manager.args[:2]
    else:
        content = manager.state['state'][3][_STATE]
        blocks, axes = content['blocks'], content['axes']
    names = [str(name) for name in axes[0]['data']]
    columns = {}
    for block in blocks:
        places = block['mgr_locs']
        places = places.args[0] if isinstance(places, _Placement) else places
        for name, values in zip(np.array(names, object)[places], block['values']):
            columns[name] = values
    return columns
