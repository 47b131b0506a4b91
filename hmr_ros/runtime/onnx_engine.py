# SPDX-License-Identifier: Apache-2.0
"""The onnxruntime backend."""

from __future__ import annotations

from dataclasses import replace
import hashlib
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from hmr_ros.runtime.engine import EngineError, TensorSpec
from hmr_ros.runtime.manifest import ManifestEntry, specs

_DTYPES = {
    'tensor(float)': 'float32', 'tensor(float16)': 'float16', 'tensor(double)': 'float64',
    'tensor(int64)': 'int64', 'tensor(int32)': 'int32', 'tensor(uint8)': 'uint8'}
# Fastest first; the CPU one is always there.
_PROVIDERS = ('CUDAExecutionProvider', 'CPUExecutionProvider')


def _read(path: Path, entry: ManifestEntry | None) -> tuple[bytes, str]:
    """Read the file once, so that what was checked is what is loaded."""
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


def _session(content: bytes, path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            'onnxruntime is not installed; `pip install onnxruntime` (or onnxruntime-gpu)'
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Waiting threads must sleep: the rest of the pipeline shares these cores.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    # Batches change from frame to frame; planned memory would be kept for each size that was seen.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    available = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=[name for name in _PROVIDERS if name in available])
    except Exception as error:  # onnxruntime has a dozen exception types without a common base
        raise EngineError(
            f'engine file {path} is not an ONNX model that onnxruntime '
            f'{onnxruntime.__version__} can load: {error}') from error


def _specs(arguments: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            argument.name, tuple(s if isinstance(s, int) else -1 for s in argument.shape),
            _DTYPES.get(argument.type, argument.type))
        for argument in arguments)


def _check_inputs(inputs: tuple[TensorSpec, ...], path: Path) -> None:
    for spec in inputs:
        if spec.shape.count(-1) > 1:
            raise EngineError(
                f'input {spec.name!r} of {path} has shape {list(spec.shape)}; only one axis, the '
                'batch, may be free. Export it again with `hmr export`')


def _measured(spec: TensorSpec, shape: tuple[int, ...]) -> TensorSpec:
    """
    Put the sizes of a first result, `shape`, where the exporter left them open.

    The first open axis of an output is its batch.
    """
    batch = spec.shape.index(-1) if -1 in spec.shape else None
    return replace(spec, shape=tuple(
        -1 if axis == batch else size for axis, size in enumerate(shape)))


def _compare(kind: str, found: tuple[TensorSpec, ...], listed: tuple[TensorSpec, ...],
             path: Path) -> None:
    if {spec.name: spec for spec in found} != {spec.name: spec for spec in listed}:
        raise EngineError(
            f'{path} has the {kind} {_describe(found)}, but the manifest lists '
            f'{_describe(listed)}; correct the manifest or export the file again')


def _describe(tensors: tuple[TensorSpec, ...]) -> str:
    return ', '.join(f'{spec.name} {spec.dtype}{list(spec.shape)}' for spec in tensors)


#: people of the warm-up run: takes the memory of a crowd before the first image, not in between.
WARM_UP_BATCH = 8


class OnnxEngine:
    """A network run by onnxruntime; see `hmr_ros.runtime.engine.Engine`."""

    backend = 'onnxruntime'
    precision = 'fp32'

    def __init__(self, path: Path, entry: ManifestEntry | None = None, threads: int = 1) -> None:
        """
        Load `path`, check it against its manifest entry and run it once.

        threads  cores one call may use; 0 lets onnxruntime choose

        Raises EngineError when the file is missing, changed, damaged, or not what is listed.
        """
        content, self.sha256 = _read(path, entry)
        self.entry = entry
        self.name = entry.name if entry else path.stem
        self._path = path
        self._session = _session(content, path, threads)
        self.inputs = _specs(self._session.get_inputs())
        self.outputs = _specs(self._session.get_outputs())
        _check_inputs(self.inputs, path)
        results = self.run({
            spec.name: np.zeros(spec.shape_for(WARM_UP_BATCH), spec.dtype)
            for spec in self.inputs})
        # Exporters do not always know the sizes of outputs; the first result does.
        self.outputs = tuple(
            _measured(spec, results[spec.name].shape) for spec in self.outputs)
        if entry is not None:
            _compare('inputs', self.inputs, specs(entry.inputs, entry.dtypes), path)
            _compare('outputs', self.outputs, specs(entry.outputs, entry.dtypes), path)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch; see `hmr_ros.runtime.engine.Engine.run`."""
        if self._session is None:
            raise EngineError(f'engine {self.name!r} was closed; load it again')
        self._check(feeds)
        names = [spec.name for spec in self.outputs]
        try:
            arrays = self._session.run(names, dict(feeds))
        except Exception as error:  # as above: no common base
            raise EngineError(
                f'engine {self.name!r} failed on inputs '
                f'{ {name: array.shape for name, array in feeds.items()} }: {error}') from error
        return dict(zip(names, arrays))

    def close(self) -> None:
        """Free the network."""
        self._session = None

    def _check(self, feeds: Mapping[str, np.ndarray]) -> None:
        wanted = {spec.name: spec for spec in self.inputs}
        if set(feeds) != set(wanted):
            raise EngineError(
                f'engine {self.name!r} takes the inputs {", ".join(sorted(wanted))}; got '
                f'{", ".join(sorted(feeds)) or "none"}')
        batches = set()
        for name, array in feeds.items():
            _check_array(self.name, wanted[name], array)
            if -1 in wanted[name].shape:
                batches.add(array.shape[wanted[name].shape.index(-1)])
        if len(batches) > 1:
            raise EngineError(
                f'inputs of engine {self.name!r} have different batch sizes: {sorted(batches)}')


def _check_array(engine: str, spec: TensorSpec, array: np.ndarray) -> None:
    expected = f'{spec.dtype} {list(spec.shape)} (-1: any batch of at least 1)'
    fits = array.ndim == len(spec.shape) and all(
        have == want or (want == -1 and have > 0) for have, want in zip(array.shape, spec.shape))
    if not fits or array.dtype != spec.dtype:
        raise EngineError(
            f'input {spec.name!r} of engine {engine!r} is {array.dtype} {list(array.shape)}; '
            f'expected {expected}')
    # One sum is cheaper than a mask of all numbers, and no finite crop overflows it.
    if array.dtype.kind == 'f' and not np.isfinite(np.sum(array)) and not np.all(
            np.isfinite(array)):
        raise EngineError(
            f'input {spec.name!r} of engine {engine!r} holds NaN or infinity; check the image and '
            'the normalisation that made it')
