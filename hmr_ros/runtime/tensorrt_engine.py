# SPDX-License-Identifier: Apache-2.0
"""
Runs an engine that TensorRT built.

TensorRT is never imported here: the module is given as `trt`, CUDA as `Cuda`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
import math
from pathlib import Path
import threading
from typing import Any

import numpy as np

from hmr_ros.runtime.checks import check_feeds, check_free_axes, check_tensors, measured
from hmr_ros.runtime.crop_kernel import CropKernel, CropPlan
from hmr_ros.runtime.cuda import Cuda, CudaSession
from hmr_ros.runtime.engine import EngineError, TensorSpec
from hmr_ros.runtime.engine_cache import StoredEngine
from hmr_ros.runtime.manifest import ManifestEntry
from hmr_ros.runtime.tensorrt_build import errors_of, make_logger, spec_of

#: people whose graphs are made when the engine loads; larger crowds wait once for theirs.
WARM_UP_BATCH = 8
# Activations of a network may take none, but an address is needed.
_LEAST_ACTIVATIONS = 256
_NO_GRAPHS = '; without CUDA graphs: '
_CROPS = '; crops are cut on the GPU'
_NO_CROPS = '; crops are cut on the processor: '
#: the input that takes a batch of crops.
_IMAGE = 'image'


@dataclass(frozen=True)
class TensorBuffer:
    """
    The fixed memory of one tensor, for batches of any size.

    device  address on the GPU
    pinned  uint8, as many bytes as the largest batch takes; the GPU copies from or to it
    """

    spec: TensorSpec
    device: int
    pinned: np.ndarray

    def view(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the beginning of the pinned memory as an array of the tensor's dtype."""
        dtype = np.dtype(self.spec.dtype)
        return self.pinned[:math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


@dataclass(frozen=True)
class BatchProgram:
    """
    All that runs one batch size.

    context  belongs to this size only: a graph holds the state of the context it was captured from
    inputs   name -> pinned array of this size
    outputs  the same
    graph    the network and the copies of its outputs as one CUDA graph; None when they cannot be
             captured. Inputs come before it: uploaded, or cut on the GPU
    """

    context: Any
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    graph: Any


class TensorRtEngine:
    """A network run by TensorRT; see `hmr_ros.runtime.engine.Engine`."""

    backend, on_processor = 'tensorrt', False

    def __init__(
            self, trt: Any, cuda: Cuda, stored: StoredEngine, entry: ManifestEntry | None = None,
            reason: str = '') -> None:
        """
        Deserialise a checked engine, take its memory, and run it once for each small batch.

        reason  why this backend was chosen

        Raises EngineError when TensorRT or the GPU refuses, or it is not what the manifest lists.
        """
        self._key = key = stored.record.key
        self.name, self.precision, self.sha256 = key.name, key.precision, key.onnx_sha256
        self.entry, self.reason, self.max_batch = entry, reason, key.max_batch
        self.path = stored.path
        self._trt, self._thread = trt, threading.get_ident()
        self._programs: dict[int, BatchProgram] = {}
        self._session: CudaSession | None = CudaSession(cuda)
        self._crops: CropKernel | None = None
        try:
            self._open(stored)
            self._offer_crops(cuda)
        except BaseException:
            self.close()
            raise

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """
        Run one batch; see `hmr_ros.runtime.engine.Engine.run`.

        Raises EngineError also for more people than the engine was built for, and when called
        from another thread than the one that loaded it.
        """
        self._check_caller()
        program = self._program(check_feeds(self.name, self.inputs, feeds))
        self._upload(program, feeds)
        return self._finish(program)

    @property
    def run_crops(self) -> Callable[
            [np.ndarray, CropPlan, Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None:
        """
        What runs one batch of crops that the GPU cuts itself; None where it cannot: see `reason`.

        It takes the image, uint8 `(H, W[, channels])`, the plan of its crops, and the inputs
        besides 'image'. It returns and raises what `run` does.
        """
        return self._run_crops if self._crops is not None else None

    def _run_crops(
            self, image: np.ndarray, plan: CropPlan,
            feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._check_caller()
        batch = self._check_plan(plan, feeds)
        program = self._program(batch)
        self._upload(program, feeds)
        self._crops.cut(image, plan, self._buffers[_IMAGE].device)
        return self._finish(program)

    def _check_plan(self, plan: CropPlan, feeds: Mapping[str, np.ndarray]) -> int:
        """Return the number of crops, which the other inputs must have too."""
        others = [spec for spec in self.inputs if spec.name != _IMAGE]
        spec, = (spec for spec in self.inputs if spec.name == _IMAGE)
        batch, rows = len(plan.finer), check_feeds(self.name, others, feeds)
        if spec.shape_for(batch) != (batch, 3, plan.size, plan.size) or not batch:
            raise EngineError(
                f'{batch} crops of {plan.size} pixels for engine {self.name!r}, whose input '
                f'{_IMAGE!r} is {list(spec.shape)}; expected at least one, of its size')
        if any(-1 in spec.shape for spec in others) and rows != batch:
            raise EngineError(f'{batch} crops but {rows} rows of the other inputs of engine '
                              f'{self.name!r}; expected as many')
        return batch

    def _check_caller(self) -> None:
        if self._session is None:
            raise EngineError(f'engine {self.name!r} was closed; load it again')
        if threading.get_ident() != self._thread:
            raise EngineError(
                f'engine {self.name!r} was loaded by another thread, which alone may run it; load '
                'one in each thread')

    def _program(self, batch: int) -> BatchProgram:
        if batch > self.max_batch:
            raise EngineError(
                f'{batch} people for engine {self.name!r}, which was built for at most '
                f'{self.max_batch}; {replace(self._key, max_batch=batch).remedy}, or give fewer')
        return self._programs.get(batch) or self._prepare(batch)

    def _upload(self, program: BatchProgram, feeds: Mapping[str, np.ndarray]) -> None:
        """Enqueue copies of the inputs that are given."""
        for name, array in feeds.items():
            np.copyto(program.inputs[name], array)
            self._session.upload(self._buffers[name].device, program.inputs[name])

    def _finish(self, program: BatchProgram) -> dict[str, np.ndarray]:
        """Run the network on the inputs that were enqueued, and wait for its outputs."""
        if program.graph is not None:
            self._session.launch(program.graph)
        else:
            self._enqueue(program.context, program.outputs)
        self._session.wait()
        # The pinned memory is written again by the next call.
        return {name: array.copy() for name, array in program.outputs.items()}

    def close(self) -> None:
        """Free contexts, engine, stream and memory, in this order."""
        self._programs = {}
        self._engine = self._runtime = self._buffers = self._crops = None
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self, stored: StoredEngine) -> None:
        self._engine = self._deserialise(stored)
        specs = self._declared(stored.path)
        self._activations = self._session.device_memory(self._activation_bytes)
        context, shapes = self._context(self.max_batch)
        self.outputs = tuple(measured(spec, shapes[spec.name]) for spec in specs)
        del context
        if self.entry is not None:
            check_tensors(self.inputs, self.outputs, self.entry, stored.path)
        self._buffers = {
            spec.name: self._buffer(spec, shapes[spec.name])
            for spec in (*self.inputs, *self.outputs)}
        for batch in range(1, min(WARM_UP_BATCH, self.max_batch) + 1):
            self._prepare(batch)

    def _offer_crops(self, cuda: Cuda) -> None:
        """Make the kernel that cuts crops, where the network takes such; without it say why."""
        spec = next((spec for spec in self.inputs if spec.name == _IMAGE), None)
        if spec is None or spec.dtype != 'float32' or spec.shape[:2] != (-1, 3) or len(
                set(spec.shape[2:])) != 1 or len(spec.shape) != 4:
            return
        try:
            kernel = CropKernel(self._session, cuda.device().compute_capability)
            kernel.warm_up(spec.shape[-1], self._buffers[_IMAGE].device)
            self._crops = kernel
            self.reason += _CROPS
        except EngineError as error:
            self.reason += f'{_NO_CROPS}{error}'

    def _deserialise(self, stored: StoredEngine) -> Any:
        self._logger = make_logger(self._trt)
        with errors_of(self._trt, 'start'):
            self._runtime = self._trt.Runtime(self._logger)
        # Such engines bring code of their own; the hash was checked, so it is what was built here.
        self._runtime.engine_host_code_allowed = stored.record.key.compatibility == 'version'
        engine = self._runtime.deserialize_cuda_engine(stored.plan)
        if engine is None:
            raise EngineError(
                f'TensorRT {self._trt.__version__} refuses {stored.path}: '
                f'{self._logger.summary()}; remove it and {self._key.remedy}')
        return engine

    def _declared(self, path: Path) -> tuple[TensorSpec, ...]:
        """Set `inputs`, and return the outputs with whatever sizes TensorRT leaves open."""
        engine, found = self._engine, {True: [], False: []}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            is_input = engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
            found[is_input].append(spec_of(
                self._trt, name, engine.get_tensor_shape(name), engine.get_tensor_dtype(name)))
        self.inputs = tuple(found[True])
        check_free_axes(self.inputs, path)
        return tuple(found[False])

    @property
    def _activation_bytes(self) -> int:
        return max(int(self._engine.device_memory_size_v2), _LEAST_ACTIVATIONS)

    def _buffer(self, spec: TensorSpec, shape: tuple[int, ...]) -> TensorBuffer:
        size = max(math.prod(shape) * np.dtype(spec.dtype).itemsize, 1)
        return TensorBuffer(
            spec, self._session.device_memory(size), self._session.pinned_memory(size))

    def _context(self, batch: int) -> tuple[Any, dict[str, tuple[int, ...]]]:
        """Return a context for `batch`, and the shapes of all tensors in it."""
        # One call runs at a time, so all contexts may share one memory for activations.
        context = self._engine.create_execution_context(
            self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise EngineError(f'TensorRT gives no context for engine {self.name!r}: '
                              f'{self._logger.summary()}; free GPU memory')
        context.set_device_memory(self._activations, self._activation_bytes)
        for spec in self.inputs:
            self._must(context.set_input_shape(spec.name, spec.shape_for(batch)),
                       f'does not take {spec.shape_for(batch)} for input {spec.name!r}')
        with errors_of(self._trt, f'tell the shapes of engine {self.name!r}'):
            missing = context.infer_shapes()
        self._must(not missing, f'cannot tell the shapes of {", ".join(missing)}')
        names = (self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors))
        return context, {
            name: tuple(int(size) for size in context.get_tensor_shape(name)) for name in names}

    def _prepare(self, batch: int) -> BatchProgram:
        """Make what runs `batch` people, run it once, and capture it."""
        context, shapes = self._context(batch)
        for name, buffer in self._buffers.items():
            self._must(context.set_tensor_address(name, buffer.device),
                       f'does not take the memory of tensor {name!r}')
        views = {name: buffer.view(shapes[name]) for name, buffer in self._buffers.items()}
        inputs = {spec.name: views[spec.name] for spec in self.inputs}
        outputs = {spec.name: views[spec.name] for spec in self.outputs}
        for name, array in inputs.items():
            array.fill(0)
            self._session.upload(self._buffers[name].device, array)
        # TensorRT settles what depends on the shapes in the first run, which cannot be captured.
        self._enqueue(context, outputs)
        self._session.wait()
        program = BatchProgram(context, inputs, outputs, self._capture(context, outputs))
        self._programs[batch] = program
        return program

    def _capture(self, context: Any, outputs: Mapping[str, np.ndarray]) -> Any:
        try:
            return self._session.capture(lambda: self._enqueue(context, outputs))
        except EngineError as error:
            # Some layers cannot be captured; the engine is slower, not wrong.
            if _NO_GRAPHS not in self.reason:
                self.reason += f'{_NO_GRAPHS}{error}'
            return None

    def _enqueue(self, context: Any, outputs: Mapping[str, np.ndarray]) -> None:
        self._must(context.execute_async_v3(self._session.stream), 'could not be run')
        for name, array in outputs.items():
            self._session.download(array, self._buffers[name].device)

    def _must(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(
                f'engine {self.name!r} {what}: {self._logger.summary()}; remove {self.path} and '
                f'{self._key.remedy}')
