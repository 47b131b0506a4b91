# SPDX-License-Identifier: Apache-2.0
"""What every backend checks: the file, the tensors it should have, and the arrays it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
import hashlib
import math
from pathlib import Path

import numpy as np

from hmr_ros.runtime.engine import EngineError, TensorSpec
from hmr_ros.runtime.manifest import ManifestEntry, specs

# As the operator's name stands in the file; no parser is needed to see it.
_EXPLICIT_QUANTIZATION = b'DequantizeLinear'


def read_network(path: Path, entry: ManifestEntry | None) -> tuple[bytes, str]:
    """
    Read the ONNX file once, so that what was checked is what is loaded; with its SHA-256.

    Raises EngineError when it cannot be read or is not the one in the manifest.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EngineError(
            f'engine file {path} cannot be read ({error.strerror}); check the path, or install '
            'the package again') from error
    digest = hashlib.sha256(content).hexdigest()
    if entry is not None and digest != entry.sha256:
        raise EngineError(
            f'engine file {path} has SHA-256 {digest}, but the manifest says {entry.sha256} for '
            f'{entry.name!r}; the file was damaged or changed. Restore it, or export it again '
            'with `hmr export`')
    return content, digest


def choose_precision(precision: str, plain: str, content: bytes, path: Path) -> str:
    """
    Return the precision of the ONNX file `content`; 'auto' is int8 if quantized, else `plain`.

    Raises EngineError when the file cannot be run that way: int8 takes a file with explicit
    quantization, and such a file takes nothing else.
    """
    quantized = _EXPLICIT_QUANTIZATION in content
    if precision == 'auto':
        return 'int8' if quantized else plain
    if precision == 'int8' and not quantized:
        raise EngineError(
            f'{path} has no QuantizeLinear and DequantizeLinear nodes, and precision int8 needs '
            f'them: quantize it first with `hmr quantize`, and give that file; or use precision '
            f'{plain}')
    if precision != 'int8' and quantized:
        raise EngineError(
            f'{path} is quantized, which says int8, but precision is {precision}; use precision '
            'int8 (or auto), or the file that it was made from')
    return precision


def check_free_axes(inputs: Sequence[TensorSpec], path: Path) -> None:
    """Raise EngineError when an input has more free axes than its batch."""
    for spec in inputs:
        if spec.shape.count(-1) > 1:
            raise EngineError(
                f'input {spec.name!r} of {path} has shape {list(spec.shape)}; only one axis, the '
                'batch, may be free. Export it again with `hmr export`')


def measured(spec: TensorSpec, shape: Sequence[int]) -> TensorSpec:
    """
    Put the sizes of a first result, `shape`, where the exporter left them open.

    The first open axis of an output is its batch.
    """
    batch = spec.shape.index(-1) if -1 in spec.shape else None
    return replace(spec, shape=tuple(
        -1 if axis == batch else int(size) for axis, size in enumerate(shape)))


def check_tensors(
        inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], entry: ManifestEntry,
        path: Path) -> None:
    """Raise EngineError when the tensors of the file are not those of its manifest entry."""
    for kind, found, listed in (('inputs', inputs, entry.inputs),
                                ('outputs', outputs, entry.outputs)):
        expected = specs(listed, entry.dtypes)
        if set(found) != set(expected):
            raise EngineError(
                f'{path} has the {kind} {_describe(found)}, but the manifest lists '
                f'{_describe(expected)}; correct the manifest or export the file again')


def _describe(tensors: Sequence[TensorSpec]) -> str:
    return ', '.join(f'{spec.name} {spec.dtype}{list(spec.shape)}' for spec in tensors)


def check_feeds(
        engine: str, inputs: Sequence[TensorSpec], feeds: Mapping[str, np.ndarray]) -> int:
    """
    Return the batch size of the arrays given to `engine`; 1 when no input has a free axis.

    Raises EngineError when an array is missing, misshapen, of another dtype or not finite.
    """
    batches = set()
    for spec in inputs:
        array = feeds.get(spec.name)
        if array is None:
            raise _wrong_names(engine, inputs, feeds)
        _check_array(engine, spec, array)
        if spec.batch_axis is not None:
            batches.add(array.shape[spec.batch_axis])
    if len(feeds) != len(inputs):
        raise _wrong_names(engine, inputs, feeds)
    if len(batches) > 1:
        raise EngineError(
            f'inputs of engine {engine!r} have different batch sizes: {sorted(batches)}')
    return batches.pop() if batches else 1


def _wrong_names(
        engine: str, inputs: Sequence[TensorSpec], feeds: Mapping[str, np.ndarray]) -> EngineError:
    return EngineError(
        f'engine {engine!r} takes the inputs {", ".join(sorted(spec.name for spec in inputs))}; '
        f'got {", ".join(sorted(feeds)) or "none"}')


def _check_array(engine: str, spec: TensorSpec, array: np.ndarray) -> None:
    if not spec.takes(array.shape) or array.dtype != spec.numpy_dtype:
        raise EngineError(
            f'input {spec.name!r} of engine {engine!r} is {array.dtype} {list(array.shape)}; '
            f'expected {spec.dtype} {list(spec.shape)} (-1: any batch of at least 1)')
    # One product is cheaper than a mask of all numbers, and no finite crop overflows it.
    if array.dtype.kind == 'f' and not math.isfinite(np.vdot(array, array)) and not np.all(
            np.isfinite(array)):
        raise EngineError(
            f'input {spec.name!r} of engine {engine!r} holds NaN or infinity; check the image and '
            'the normalisation that made it')
