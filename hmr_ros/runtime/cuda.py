# SPDX-License-Identifier: Apache-2.0
"""
The little of CUDA that an engine needs, through cuda-python (`cuda.bindings` 12 and 13).

Nothing here is imported or called before `find_cuda`. Every call is checked; a failure is an
EngineError that names the call.
"""

from __future__ import annotations

from collections.abc import Callable
import ctypes
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from hmr_ros.runtime.engine import EngineError

_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
_REMEDY = 'check the driver, and that no other program has stopped the GPU'


@dataclass(frozen=True)
class Device:
    """A GPU: its name, compute capability such as '8.7', and memory in bytes."""

    name: str
    compute_capability: str
    memory_bytes: int


class Cuda:
    """The CUDA runtime API with its errors raised; `runtime` is `cuda.bindings.runtime`."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime

    def take(self, result: tuple, what: str) -> Any:
        """Return the value of a call's `result`. Raises EngineError when the call failed."""
        error, *values = result
        if int(error):
            raise EngineError(f'{what} failed: {self._explain(error)}')
        return values[0] if values else None

    def _explain(self, error: Any) -> str:
        _, text = self.runtime.cudaGetErrorString(error)
        words = text.decode() if isinstance(text, bytes) else str(text)
        if int(error) == _OUT_OF_MEMORY:
            return f'{words} (CUDA error 2); free GPU memory or build with a smaller --max-batch'
        return f'{words} (CUDA error {int(error)}); {_REMEDY}'

    @property
    def driver(self) -> Any:
        """`cuda.bindings.driver`, which has what the runtime API lacks: kernels of one's own."""
        try:
            from cuda.bindings import driver
        except ImportError as error:
            raise EngineError(f'cuda.bindings.driver cannot be imported ({error}); install '
                              'cuda-python again') from error
        return driver

    def take_of_driver(self, result: tuple, what: str) -> Any:
        """As `take`, for a call of the driver."""
        error, *values = result
        if int(error):
            _, words = self.driver.cuGetErrorString(error)
            raise EngineError(f'{what} failed: {(words or b"unknown error").decode()} '
                              f'(CUDA driver error {int(error)}); {_REMEDY}')
        return values[0] if values else None

    def device(self) -> Device:
        """Return the first GPU. Raises EngineError when there is none that can be used."""
        runtime = self.runtime
        count = self.take(runtime.cudaGetDeviceCount(), 'looking for a GPU (cudaGetDeviceCount)')
        if not count:
            raise EngineError('CUDA sees no GPU; check CUDA_VISIBLE_DEVICES and the driver')
        facts = self.take(
            runtime.cudaGetDeviceProperties(0), 'asking the GPU (cudaGetDeviceProperties)')
        name = facts.name.decode() if isinstance(facts.name, bytes) else str(facts.name)
        return Device(
            name.rstrip('\0'), f'{facts.major}.{facts.minor}', int(facts.totalGlobalMem))


def find_cuda() -> Cuda:
    """Return the CUDA of this environment. Raises EngineError when cuda-python is missing."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError(
            f'cuda-python cannot be imported ({error}); `pip install "cuda-python>=12.6,<14"`, '
            'of the major version of your CUDA') from error
    return Cuda(runtime)


class CudaSession:
    """
    A stream of its own, and all memory, graphs and kernels used with it; `close` frees them.

    Use it from one thread.
    """

    def __init__(self, cuda: Cuda) -> None:
        """Create the stream on the first GPU. Raises EngineError when CUDA refuses."""
        self._cuda, self._runtime = cuda, cuda.runtime
        self._device_memory: list[int] = []
        self._pinned_memory: list[int] = []
        self._graphs: list[Any] = []
        self._modules: list[Any] = []
        cuda.take(self._runtime.cudaSetDevice(0), 'choosing the GPU (cudaSetDevice)')
        # The default stream would wait for everybody else's work.
        self._stream = cuda.take(
            self._runtime.cudaStreamCreateWithFlags(self._runtime.cudaStreamNonBlocking),
            'creating a stream (cudaStreamCreateWithFlags)')

    @property
    def stream(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return int(self._stream)

    def device_memory(self, size: int) -> int:
        """Return the address of `size` new bytes on the GPU, aligned to 256."""
        address = int(self._cuda.take(
            self._runtime.cudaMalloc(size), f'taking {size} bytes of GPU memory (cudaMalloc)'))
        self._device_memory.append(address)
        return address

    def pinned_memory(self, size: int) -> np.ndarray:
        """Return `size` new bytes (uint8) that the GPU reads and writes without a copy."""
        address = int(self._cuda.take(
            self._runtime.cudaHostAlloc(size, self._runtime.cudaHostAllocDefault),
            f'pinning {size} bytes of memory (cudaHostAlloc)'))
        self._pinned_memory.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def free_device(self, address: int) -> None:
        """Free memory of the GPU before the end; nothing that was enqueued may still use it."""
        self._device_memory.remove(address)
        self._cuda.take(self._runtime.cudaFree(address), 'freeing GPU memory (cudaFree)')

    def free_pinned(self, pinned: np.ndarray) -> None:
        """Free pinned memory before the end; nothing that was enqueued may still use it."""
        self._pinned_memory.remove(pinned.ctypes.data)
        self._cuda.take(self._runtime.cudaFreeHost(pinned.ctypes.data),
                        'freeing pinned memory (cudaFreeHost)')

    def upload(self, address: int, array: np.ndarray) -> None:
        """Enqueue a copy of pinned `array` to the GPU."""
        self._copy(address, array.ctypes.data, array.nbytes,
                   self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def download(self, array: np.ndarray, address: int) -> None:
        """Enqueue a copy from the GPU into pinned `array`."""
        self._copy(array.ctypes.data, address, array.nbytes,
                   self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        self._cuda.take(
            self._runtime.cudaMemcpyAsync(target, source, size, kind, self._stream),
            f'copying {size} bytes (cudaMemcpyAsync)')

    def wait(self) -> None:
        """Wait until all that was enqueued is done."""
        self._cuda.take(self._runtime.cudaStreamSynchronize(self._stream),
                        'running on the GPU (cudaStreamSynchronize)')

    def capture(self, work: Callable[[], None]) -> Any:
        """
        Return a graph of what `work` enqueues, without running it.

        Raises EngineError when `work` fails or holds something that cannot be captured.
        """
        runtime, take = self._runtime, self._cuda.take
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        take(runtime.cudaStreamBeginCapture(self._stream, mode),
             'beginning a graph (cudaStreamBeginCapture)')
        try:
            work()
        except EngineError:
            # A stream that is left capturing is of no more use.
            runtime.cudaStreamEndCapture(self._stream)
            raise
        recorded = take(runtime.cudaStreamEndCapture(self._stream),
                        'capturing a graph (cudaStreamEndCapture)')
        try:
            graph = take(runtime.cudaGraphInstantiate(recorded, 0),
                         'preparing a graph (cudaGraphInstantiate)')
        finally:
            runtime.cudaGraphDestroy(recorded)
        self._graphs.append(graph)
        return graph

    def launch(self, graph: Any) -> None:
        """Enqueue all that was captured."""
        self._cuda.take(self._runtime.cudaGraphLaunch(graph, self._stream),
                        'running a graph (cudaGraphLaunch)')

    def load_kernel(self, code: bytes, name: str) -> Any:
        """Return the kernel `name` of machine code made for this GPU."""
        driver, take = self._cuda.driver, self._cuda.take_of_driver
        module = take(driver.cuModuleLoadData(code), f'loading kernel {name} (cuModuleLoadData)')
        self._modules.append(module)
        return take(driver.cuModuleGetFunction(module, name.encode()),
                    f'finding kernel {name} (cuModuleGetFunction)')

    def launch_kernel(
            self, kernel: Any, grid: tuple[int, int, int], block: tuple[int, int, int],
            arguments: Sequence[tuple[Any, type]]) -> None:
        """Enqueue a kernel; `arguments` are values with their ctypes types."""
        values, types = zip(*arguments)
        self._cuda.take_of_driver(
            self._cuda.driver.cuLaunchKernel(
                kernel, grid[0], grid[1], grid[2], block[0], block[1], block[2], 0, self.stream,
                (values, types), 0),
            'starting a kernel (cuLaunchKernel)')

    def close(self) -> None:
        """Free everything, whatever fails on the way; a second time does nothing."""
        if self._stream is None:
            return
        runtime, stream, self._stream = self._runtime, self._stream, None
        runtime.cudaStreamSynchronize(stream)
        for graph in self._graphs:
            runtime.cudaGraphExecDestroy(graph)
        for module in self._modules:
            self._cuda.driver.cuModuleUnload(module)
        for address in self._device_memory:
            runtime.cudaFree(address)
        for address in self._pinned_memory:
            runtime.cudaFreeHost(address)
        runtime.cudaStreamDestroy(stream)
        self._graphs, self._modules = [], []
        self._device_memory, self._pinned_memory = [], []
