# SPDX-License-Identifier: Apache-2.0
"""The onnxruntime backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import numpy as np

from hmr_ros.runtime.checks import (
    check_feeds, check_free_axes, check_tensors, choose_precision, measured, read_network)
from hmr_ros.runtime.engine import EngineError, TensorSpec
from hmr_ros.runtime.manifest import ManifestEntry, most_of

_DTYPES = {
    'tensor(float)': 'float32', 'tensor(float16)': 'float16', 'tensor(double)': 'float64',
    'tensor(int64)': 'int64', 'tensor(int32)': 'int32', 'tensor(uint8)': 'uint8'}
# Fastest first; the CPU one is always there.
_PROVIDERS = ('CUDAExecutionProvider', 'CPUExecutionProvider')


def open_session(content: bytes, path: Path, threads: int) -> Any:
    """
    Return onnxruntime's session of an ONNX file; `threads` as for `OnnxEngine`.

    Raises EngineError when onnxruntime is missing or refuses the file, whose `path` is named.
    """
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


def choose_onnx_precision(precision: str, content: bytes, path: Path, reason: str) -> str:
    """
    Return the precision in which onnxruntime computes the file `content`: int8 if quantized, else
    fp32.

    Raises EngineError when that is not the one asked for; `reason` says why onnxruntime is asked.
    """
    if precision == 'fp16':
        raise EngineError(
            'the onnxruntime backend computes in fp32 only (a file may still store its weights as '
            'float16), or in int8 where the file is quantized, but precision is fp16; use '
            f'precision "fp32" (or "auto"). Backend: {reason}')
    return choose_precision(precision, 'fp32', content, path)


def on_processor(session: Any) -> bool:
    """Tell whether a session runs on the processor."""
    return session.get_providers()[0] == 'CPUExecutionProvider'


def _specs(arguments: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            argument.name, tuple(s if isinstance(s, int) else -1 for s in argument.shape),
            _DTYPES.get(argument.type, argument.type))
        for argument in arguments)


#: people of the warm-up run: takes the memory of a crowd before the first image, not in between.
WARM_UP_BATCH = 8


class OnnxEngine:
    """A network run by onnxruntime; see `hmr_ros.runtime.engine.Engine`."""

    backend = 'onnxruntime'

    def __init__(
            self, path: Path, entry: ManifestEntry | None = None, threads: int = 1,
            reason: str = '', precision: str = 'auto') -> None:
        """
        Load `path`, check it against its manifest entry and run it once.

        threads    cores one call may use; 0 lets onnxruntime choose
        reason     why this backend was chosen
        precision  fp32, int8 for files with explicit quantization, or auto: what the file says

        Raises EngineError when the file is missing, changed, damaged, or not what is listed.
        """
        content, self.sha256 = read_network(path, entry)
        self.entry, self.reason = entry, reason
        self.precision = choose_onnx_precision(precision, content, path, reason)
        self.name = entry.name if entry else path.stem
        self._session = open_session(content, path, threads)
        self.inputs = _specs(self._session.get_inputs())
        self.outputs = _specs(self._session.get_outputs())
        self.on_processor = on_processor(self._session)
        self._names = [spec.name for spec in self.outputs]
        check_free_axes(self.inputs, path)
        results = self.run({
            spec.name: np.zeros(spec.shape_for(most_of(entry, WARM_UP_BATCH)), spec.dtype)
            for spec in self.inputs})
        # Exporters do not always know the sizes of outputs; the first result does.
        self.outputs = tuple(
            measured(spec, results[spec.name].shape) for spec in self.outputs)
        if entry is not None:
            check_tensors(self.inputs, self.outputs, entry, path)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch; see `hmr_ros.runtime.engine.Engine.run`."""
        if self._session is None:
            raise EngineError(f'engine {self.name!r} was closed; load it again')
        check_feeds(self.name, self.inputs, feeds)
        try:
            arrays = self._session.run(self._names, feeds)
        except Exception as error:  # as above: no common base
            raise EngineError(
                f'engine {self.name!r} failed on inputs '
                f'{ {name: array.shape for name, array in feeds.items()} }: {error}') from error
        return dict(zip(self._names, arrays))

    def close(self) -> None:
        """Free the network."""
        self._session = None
