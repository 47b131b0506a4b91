# SPDX-License-Identifier: Apache-2.0
"""
An unpickler that can build arrays and plain containers, and nothing else.

The official SMPL files are Python 2 pickles that hold numpy arrays, scipy sparse matrices and
chumpy objects. The latter two become inert records here, from which the arrays are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
import io
import pickle
from typing import Any

import numpy as np

from hmr_ros.body.model import BodyError


class Record:
    """Stands for a foreign object: remembers its state, has no behaviour."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {'state': state}


class _Chumpy(Record):
    """A chumpy.ch.Ch (array under 'x') or chumpy.reordering.Select ('a' and 'idxs')."""


class _Sparse(Record):
    """A scipy.sparse csc_matrix or csr_matrix."""


class _Csc(_Sparse):
    pass


class _Csr(_Sparse):
    pass


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for _codecs.encode, which Python 3 writes for byte strings."""
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError(f'text encoding {encoding!r} is not used by array pickles')
    return text.encode('latin1')


def _reconstruct(subtype: Any, shape: tuple[int, ...], kind: Any) -> np.ndarray:
    """Stand in for numpy's _reconstruct: always a plain, empty ndarray."""
    del subtype, kind
    return np.ndarray.__new__(np.ndarray, shape)


def _scalar(dtype: np.dtype, content: bytes) -> np.generic:
    """Stand in for numpy's scalar: refuses object dtypes."""
    if dtype.hasobject:
        raise pickle.UnpicklingError('object scalars are refused')
    return np.frombuffer(content, dtype, 1)[0]


def _no_bytes() -> bytes:
    return b''


_ALLOWED: dict[tuple[str, str], Any] = {
    ('numpy', 'ndarray'): np.ndarray, ('numpy', 'dtype'): np.dtype, ('_codecs', 'encode'): _latin1,
    ('chumpy.ch', 'Ch'): _Chumpy, ('chumpy.reordering', 'Select'): _Chumpy,
}
for _module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    _ALLOWED[_module, '_reconstruct'] = _reconstruct
    _ALLOWED[_module, 'scalar'] = _scalar
for _module in ('scipy.sparse.csc', 'scipy.sparse._csc'):
    _ALLOWED[_module, 'csc_matrix'] = _Csc
for _module in ('scipy.sparse.csr', 'scipy.sparse._csr'):
    _ALLOWED[_module, 'csr_matrix'] = _Csr
for _builtin in ('builtins', '__builtin__'):
    _ALLOWED[_builtin, 'object'] = Record
    # Python 3 writes the content of an empty array this way for Python 2.
    _ALLOWED[_builtin, 'bytes'] = _no_bytes
_ALLOWED['copy_reg', '_reconstructor'] = lambda kind, base, state: kind()
_ALLOWED['copyreg', '_reconstructor'] = _ALLOWED['copy_reg', '_reconstructor']


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, more: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(io.BytesIO(content), encoding='latin1')
        self._allowed = {**_ALLOWED, **more}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f'it asks for {module}.{name}, which is not an array') from None


def load_records(content: bytes, more: Mapping[tuple[str, str], Any]) -> Any:
    """
    Read a pickle of arrays, numbers, text, plain containers and what stands for other things.

    more  (module, name) -> what takes its place: subclasses of Record, or functions that only put
          their arguments somewhere

    Python 2 text is read as Latin-1. Raises pickle.UnpicklingError when the pickle is damaged or
    asks for anything else.
    """
    try:
        return _ArrayUnpickler(content, more).load()
    except Exception as error:  # a hostile or damaged pickle can raise anything
        raise pickle.UnpicklingError(str(error)) from error


def load_plain(content: bytes) -> dict[str, Any]:
    """
    Read a pickled dictionary of arrays, numbers, text and plain containers.

    Raises pickle.UnpicklingError as `load_records` does, and when it holds something else than a
    dictionary.
    """
    loaded = load_records(content, {})
    if not isinstance(loaded, dict):
        raise pickle.UnpicklingError(f'it holds a {type(loaded).__name__}, expected a dictionary')
    return {_text(key): value for key, value in loaded.items()}


def load_arrays(content: bytes, file_name: str) -> dict[str, np.ndarray]:
    """
    Read a pickled dictionary of arrays; entries that are not arrays are left out.

    Raises BodyError, which names `file_name` and what the file asked for, when the pickle is
    damaged or wants anything but arrays.
    """
    try:
        loaded = load_plain(content)
    except pickle.UnpicklingError as error:
        raise BodyError(
            f'body model file {file_name} is refused: {error}. Only pickles of dictionaries of '
            'numpy arrays, scipy sparse matrices and chumpy arrays are read') from error
    arrays = {key: _to_array(value, file_name) for key, value in loaded.items()}
    return {key: value for key, value in arrays.items() if value is not None}


def _text(key: Any) -> str:
    return key.decode('latin1') if isinstance(key, bytes) else str(key)


def _to_array(value: Any, file_name: str) -> np.ndarray | None:
    if isinstance(value, np.ndarray):
        return None if value.dtype.hasobject else value
    if isinstance(value, _Sparse):
        return _dense(value, file_name)
    if isinstance(value, _Chumpy):
        return _chumpy_array(value, file_name)
    return None


def _chumpy_array(record: _Chumpy, file_name: str) -> np.ndarray:
    """Array of a Ch, or `a.ravel()[idxs]` of a Select in its preferred shape."""
    state = record.state
    if isinstance(state.get('x'), np.ndarray):
        return state['x']
    if 'a' in state and 'idxs' in state:
        source = _to_array(state['a'], file_name)
        picked = np.asarray(source).ravel()[np.asarray(state['idxs'])]
        return picked.reshape(state.get('preferred_shape', picked.shape))
    raise BodyError(f'body model file {file_name} holds a chumpy object without an array; its '
                    f'fields are {sorted(map(str, state))}')


def _dense(record: _Sparse, file_name: str) -> np.ndarray:
    from scipy import sparse
    state = record.state
    kind = sparse.csc_matrix if isinstance(record, _Csc) else sparse.csr_matrix
    try:
        shape = state.get('_shape', state.get('shape'))
        matrix = kind((state['data'], state['indices'], state['indptr']), shape=shape)
    except (KeyError, TypeError, ValueError) as error:
        raise BodyError(
            f'body model file {file_name} holds a damaged sparse matrix ({error!r})') from error
    return matrix.toarray()
