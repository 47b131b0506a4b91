# SPDX-License-Identifier: Apache-2.0
"""What runs a torch network: layer by layer on the CPU, as one CUDA graph per batch on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
import threading
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hmr_ros.runtime.torch_network import Program, Tensors, TorchNetwork

Arrays = Mapping[str, np.ndarray]
#: people of the largest warm-up run; larger crowds wait once for theirs.
WARM_UP_BATCH = 8
# The first runs choose kernels and take workspaces, which cannot be captured.
_RUNS_BEFORE_CAPTURE = 2
_NO_GRAPHS = '; without CUDA graphs: '


class Runner(Protocol):
    """
    Runs one network on one device.

    note      what it has to say about that, added to the reason of the backend; or ''
    thread    the one thread that may run it; None: any
    warm_up   batch sizes to run when an engine is loaded
    """

    note: str
    thread: int | None
    warm_up: tuple[int, ...]

    def run(self, feeds: Arrays, batch: int) -> dict[str, np.ndarray]:
        """Run checked `feeds` of `batch` people; raises what torch raises."""
        ...

    def close(self) -> None:
        """Free its memory."""
        ...


class EagerRunner:
    """Runs a network layer by layer on the CPU."""

    note, thread = '', None
    # One size takes the memory of a crowd before the first image, not in between.
    warm_up = (WARM_UP_BATCH,)

    def __init__(self, network: TorchNetwork, threads: int) -> None:
        """`threads` of one call; 0 leaves torch's number alone."""
        self._network, self._threads = network, threads
        self._programs: dict[int, Program] = {}

    def run(self, feeds: Arrays, batch: int) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        # The number is the process's, and other engines set it too.
        if self._threads and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        # Tensors cannot share read-only memory, nor memory that runs backwards.
        tensors = {name: torch.from_numpy(np.require(array, requirements='CW'))
                   for name, array in feeds.items()}
        with torch.inference_mode():
            if batch in self._programs:
                results = self._programs[batch](tensors)
            else:
                self._programs[batch], results = self._network.trace(tensors)
        # A result may share memory with weights or feeds.
        return {name: np.array(tensor.numpy(), order='C') for name, tensor in results.items()}

    def close(self) -> None:
        """See `Runner.close`."""
        del self._programs, self._network


@dataclass(frozen=True)
class BatchBuffers:
    """
    All that runs one batch size on a GPU.

    pinned_inputs, pinned_outputs   where the GPU copies from and to
    inputs                          what the network reads on the GPU
    compute                         enqueues the network; returns where its results will be
    """

    pinned_inputs: Tensors
    pinned_outputs: Tensors
    inputs: Tensors
    compute: Callable[[], Tensors]


class GraphRunner:
    """
    Runs a network on a GPU, on a stream of its own, each batch size as one CUDA graph.

    Only the thread that made it may run it.
    """

    warm_up = tuple(range(1, WARM_UP_BATCH + 1))

    def __init__(self, network: TorchNetwork, cuda: Any = torch.cuda) -> None:
        """`cuda` is torch.cuda, or a stand-in for tests. Raises RuntimeError when CUDA refuses."""
        self._network, self._cuda = network, cuda
        self.note, self.thread = '', threading.get_ident()
        self._batches: dict[int, BatchBuffers] = {}
        # The default stream would wait for everybody else's work.
        self._stream = cuda.Stream(network.device)
        # One graph runs at a time, so all may share one memory for what lies between.
        self._pool = cuda.graph_pool_handle()

    def run(self, feeds: Arrays, batch: int) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        with torch.inference_mode(), self._cuda.stream(self._stream):
            if batch not in self._batches:
                self._batches[batch] = self._prepare(batch)
            buffers = self._batches[batch]
            for name, array in feeds.items():
                np.copyto(buffers.pinned_inputs[name].numpy(), array)
            self._enqueue(buffers)
            self._stream.synchronize()
        # The pinned memory is written again by the next call.
        return {name: tensor.numpy().copy() for name, tensor in buffers.pinned_outputs.items()}

    def close(self) -> None:
        """Free graphs, buffers and weights, and give their memory back."""
        # After a failure of the GPU itself there is nothing to wait for.
        with suppress(RuntimeError):
            self._stream.synchronize()
        del self._batches, self._network
        self._cuda.empty_cache()

    def _prepare(self, batch: int) -> BatchBuffers:
        """Take memory for `batch` people, run them, and capture that."""
        pinned = {spec.name: self._pinned(spec.shape_for(batch), getattr(torch, spec.dtype))
                  for spec in self._network.inputs}
        inputs = {name: torch.zeros_like(tensor, device=self._network.device)
                  for name, tensor in pinned.items()}
        with _full_float32():
            program, results = self._network.trace(inputs)
            for _ in range(_RUNS_BEFORE_CAPTURE):
                program(inputs)
            self._stream.synchronize()
            compute = self._captured(program, inputs)
        return BatchBuffers(
            pinned, {name: self._pinned(tensor.shape, tensor.dtype)
                     for name, tensor in results.items()}, inputs, compute)

    def _captured(self, program: Program, inputs: Tensors) -> Callable[[], Tensors]:
        graph = self._cuda.CUDAGraph()
        try:
            # Other threads may use CUDA meanwhile.
            with self._cuda.graph(graph, pool=self._pool, stream=self._stream,
                                  capture_error_mode='thread_local'):
                results = program(inputs)
        except RuntimeError as error:
            # Some layers cannot be captured; the engine is slower, not wrong.
            if _NO_GRAPHS not in self.note:
                self.note += f'{_NO_GRAPHS}{error}'
            return lambda: _run_in_full_float32(program, inputs)

        def replay() -> Tensors:
            graph.replay()
            return results
        return replay

    def _enqueue(self, buffers: BatchBuffers) -> None:
        for name, tensor in buffers.inputs.items():
            tensor.copy_(buffers.pinned_inputs[name], non_blocking=True)
        for name, tensor in buffers.compute().items():
            buffers.pinned_outputs[name].copy_(tensor, non_blocking=True)

    def _pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, pin_memory=self._network.device.type == 'cuda')


def _full_float32() -> AbstractContextManager[None]:
    # By default convolutions use TF32, and fp32 would then mean 10 bits of mantissa.
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)


def _run_in_full_float32(program: Program, inputs: Tensors) -> Tensors:
    with _full_float32():
        return program(inputs)
