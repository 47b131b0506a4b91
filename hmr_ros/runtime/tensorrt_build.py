# SPDX-License-Identifier: Apache-2.0
"""
Builds an engine from ONNX with TensorRT 10.3 and newer, or 11.

TensorRT is never imported here: the module is given as `trt`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import threading
from typing import Any

from hmr_ros.runtime.build_options import BuildOptions, BuildWatch
from hmr_ros.runtime.checks import check_free_axes
from hmr_ros.runtime.engine import EngineError, TensorSpec

#: people of a usual frame, for which the builder tunes.
TYPICAL_BATCH = 4
_SHOWN_MESSAGES = 5


@dataclass(frozen=True)
class BuildRequest:
    """
    What to build.

    path      the ONNX file, for messages
    network   the ONNX file as `typed_network` returns it
    options   batch, compatibility, workspace, and who watches
    timing    what earlier builds on this machine measured, or b''
    """

    path: Path
    network: bytes
    options: BuildOptions
    timing: bytes = b''


@dataclass(frozen=True)
class BuiltEngine:
    """An engine in TensorRT's own format (`plan`), its tensors, and what the build measured."""

    plan: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    timing: bytes


def build_plan(trt: Any, request: BuildRequest) -> BuiltEngine:
    """
    Build an engine on the present GPU; it takes minutes.

    Raises EngineError with TensorRT's own messages when the network cannot be read or built.
    """
    logger = make_logger(trt)
    with errors_of(trt, f'prepare the build of {request.path}'):
        builder = trt.Builder(logger)
        network = builder.create_network(_network_flags(trt))
        _parse(trt, network, logger, request)
        inputs, outputs = _tensors(trt, network)
        check_free_axes(inputs, request.path)
        config = builder.create_builder_config()
        _configure(trt, config, request)
        _add_profile(builder, config, inputs, request)
    # The monitor must live as long as the configuration that knows it.
    monitor = make_monitor(trt, request.options.watch)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped_by is not None:
        raise monitor.stopped_by
    if plan is None:
        raise EngineError(
            f'TensorRT {trt.__version__} could not build {request.path}: {logger.summary()}; try '
            '--precision fp32, more --workspace-mb or a smaller --max-batch')
    timing = config.get_timing_cache()
    return BuiltEngine(
        bytes(plan), inputs, outputs, bytes(timing.serialize()) if timing else b'')


@contextmanager
def errors_of(trt: Any, what: str) -> Iterator[None]:
    """Make an EngineError of what TensorRT's binding raises; `what` it cannot do."""
    try:
        yield
    except EngineError:
        raise
    except (MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise EngineError(
            f'TensorRT {trt.__version__} cannot {what}: {error}; check that the driver fits this '
            'TensorRT, and that GPU memory is free') from error


def make_logger(trt: Any) -> Any:
    """Return a TensorRT logger that keeps the newest errors for `summary()`."""
    class Logger(trt.ILogger):
        """Keeps the newest errors; called from several threads."""

        def __init__(self) -> None:
            super().__init__()
            self.messages: deque[str] = deque(maxlen=_SHOWN_MESSAGES)

        def log(self, severity: Any, message: str) -> None:
            """Keep errors only: TensorRT's warnings say nothing that a user could change."""
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.messages.append(message.strip())

        def summary(self) -> str:
            """Return the newest errors in one line."""
            return ' | '.join(self.messages) or 'it gave no reason'

    return Logger()


def make_monitor(trt: Any, watch: BuildWatch) -> Any:
    """Return a TensorRT progress monitor that tells `watch`, and stops when that raises."""
    class Monitor(trt.IProgressMonitor):
        """Counts the steps of each phase; called from several threads."""

        def __init__(self) -> None:
            super().__init__()
            self.stopped_by: BaseException | None = None
            self._steps: dict[str, int] = {}
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Remember how long the phase is."""
            with self._lock:
                self._steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Tell; returns whether the build may go on."""
            self._tell(phase_name, step + 1)
            return self.stopped_by is None

        def phase_finish(self, phase_name: str) -> None:
            """Tell that it is over; TensorRT may leave steps out."""
            self._tell(phase_name, self._steps.get(phase_name, 0))

        def _tell(self, phase_name: str, done: int) -> None:
            # An exception, also of ctrl-C, must not pass through TensorRT's own stack.
            try:
                watch.progress(phase_name, done, self._steps.get(phase_name, 0))
            except BaseException as error:  # noqa: B902
                self.stopped_by = self.stopped_by or error

    return Monitor()


def _network_flags(trt: Any) -> int:
    # From 11 on, all networks are strongly typed and the flag is ignored.
    if int(trt.__version__.split('.')[0]) >= 11:
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(trt: Any, network: Any, logger: Any, request: BuildRequest) -> None:
    parser = trt.OnnxParser(network, logger)
    if parser.parse(request.network):
        return
    problems = (parser.get_error(i) for i in range(min(parser.num_errors, _SHOWN_MESSAGES)))
    errors = [problem.desc() for problem in problems]
    raise EngineError(
        f'TensorRT {trt.__version__} cannot read {request.path}: '
        f'{" | ".join(errors) or logger.summary()}; run it with backend onnxruntime, or export it '
        'again with `hmr export`')


def _tensors(trt: Any, network: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs = tuple(spec_of(trt, tensor.name, tensor.shape, tensor.dtype) for tensor in (
        network.get_input(i) for i in range(network.num_inputs)))
    outputs = tuple(spec_of(trt, tensor.name, tensor.shape, tensor.dtype) for tensor in (
        network.get_output(i) for i in range(network.num_outputs)))
    return inputs, outputs


def spec_of(trt: Any, name: str, shape: Sequence[int], dtype: Any) -> TensorSpec:
    """Return a tensor's specification. Raises EngineError for a type that numpy lacks."""
    try:
        kind = trt.nptype(dtype)
    except TypeError as error:
        raise EngineError(
            f'tensor {name!r} is of type {dtype}, which numpy lacks; inputs and outputs must be '
            'float32, float16 or whole numbers: export it again with `hmr export`') from error
    return TensorSpec(name, tuple(int(size) for size in shape), kind.__name__)


def _configure(trt: Any, config: Any, request: BuildRequest) -> None:
    options = request.options
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    # On by default, and fp32 would then mean 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    if options.compatibility == 'version':
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    elif options.compatibility == 'hardware':
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    timing = config.create_timing_cache(request.timing) or config.create_timing_cache(b'')
    if timing is None or not config.set_timing_cache(timing, False):
        options.watch.announce(
            'TensorRT does not take the measurements of earlier builds; it measures again')


def _add_profile(
        builder: Any, config: Any, inputs: Sequence[TensorSpec], request: BuildRequest) -> None:
    profile, largest = builder.create_optimization_profile(), request.options.max_batch
    for spec in inputs:
        profile.set_shape(
            spec.name, spec.shape_for(1), spec.shape_for(min(TYPICAL_BATCH, largest)),
            spec.shape_for(largest))
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(
            f'TensorRT does not take batches of 1 to {largest} for {request.path}; use a smaller '
            '--max-batch')
