# SPDX-License-Identifier: Apache-2.0
"""
A stand-in for `cuda.bindings.runtime` in main memory, as strict as a GPU is.

Work is done when the stream is waited for, not when it is enqueued; copies must lie within live
memory; what a capture does not allow spoils it.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from types import SimpleNamespace

OK, INVALID, NO_MEMORY, NO_DEVICE, NOT_IN_CAPTURE, SPOILED = 0, 1, 2, 100, 900, 901


class cudaMemcpyKind(IntEnum):
    """As in CUDA."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(IntEnum):
    """As in CUDA."""

    cudaStreamCaptureModeThreadLocal = 1


class FakeStream:
    """Holds what was enqueued; `int` gives its handle."""

    def __init__(self, handle):
        self.handle, self.pending, self.capture, self.spoiled = handle, [], None, False

    def __int__(self):
        return self.handle

    def enqueue(self, work):
        (self.pending if self.capture is None else self.capture).append(work)


class FakeCuda:
    """The functions that the package calls; every one returns an error and maybe a value."""

    cudaMemcpyKind, cudaStreamCaptureMode = cudaMemcpyKind, cudaStreamCaptureMode
    cudaStreamNonBlocking, cudaHostAllocDefault = 1, 0

    def __init__(self, name='Fake Orin', capability=(8, 7), devices=1):
        self.properties = SimpleNamespace(
            name=name.encode(), major=capability[0], minor=capability[1],
            totalGlobalMem=8 << 30)
        self.devices, self.memory, self.streams, self.graphs = devices, {}, {}, []
        self.launches, self.fail_on, self.size_limit = 0, None, 1 << 30
        self.uploads = []

    def stream_of(self, handle):
        return self.streams[int(handle)]

    def bytes_at(self, address, size):
        """Return `size` bytes of live memory as an array that can be written."""
        for start, block in self.memory.items():
            if start <= address and address + size <= start + len(block.buffer):
                return (ctypes.c_uint8 * size).from_address(address)
        raise AssertionError(f'{size} bytes at {address} are not live memory')

    def _fails(self, name):
        return self.fail_on == name

    def cudaGetErrorString(self, error):
        return OK, {NO_MEMORY: b'out of memory'}.get(int(error), b'something is wrong')

    def cudaGetDeviceCount(self):
        return (OK, self.devices) if self.devices is not None else (NO_DEVICE, None)

    def cudaGetDeviceProperties(self, device):
        return OK, self.properties

    def cudaSetDevice(self, device):
        return (OK,) if device < self.devices else (INVALID,)

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == self.cudaStreamNonBlocking
        stream = FakeStream(1000 + len(self.streams))
        self.streams[stream.handle] = stream
        return OK, stream

    def cudaStreamDestroy(self, stream):
        del self.streams[int(stream)]
        return (OK,)

    def cudaStreamSynchronize(self, stream):
        if stream.capture is not None:
            stream.spoiled = True
            return (NOT_IN_CAPTURE,)
        if self._fails('cudaStreamSynchronize'):
            return (INVALID,)
        pending, stream.pending = stream.pending, []
        for work in pending:
            work()
        return (OK,)

    def _allocate(self, size, kind):
        capturing = [stream for stream in self.streams.values() if stream.capture is not None]
        for stream in capturing:
            stream.spoiled = True
        if capturing:
            return NOT_IN_CAPTURE, None
        if size > self.size_limit or self._fails(kind):
            return NO_MEMORY, None
        buffer = (ctypes.c_uint8 * (size + 256))()
        address = ctypes.addressof(buffer) + -ctypes.addressof(buffer) % 256
        self.memory[address] = SimpleNamespace(
            kind=kind, whole=buffer, buffer=(ctypes.c_uint8 * size).from_address(address))
        return OK, address

    def cudaMalloc(self, size):
        return self._allocate(size, 'device')

    def cudaHostAlloc(self, size, flags):
        return self._allocate(size, 'pinned')

    def _free(self, address, kind):
        if address not in self.memory or self.memory[address].kind != kind:
            return (INVALID,)
        del self.memory[address]
        return (OK,)

    def cudaFree(self, address):
        return self._free(address, 'device')

    def cudaFreeHost(self, address):
        return self._free(address, 'pinned')

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        there, here = self.bytes_at(target, size), self.bytes_at(source, size)
        assert kind in tuple(cudaMemcpyKind)
        if kind == cudaMemcpyKind.cudaMemcpyHostToDevice:
            self.uploads.append((target, size))
        stream.enqueue(lambda: ctypes.memmove(there, here, size))
        return (OK,)

    def cudaStreamBeginCapture(self, stream, mode):
        assert stream.capture is None and not stream.pending, 'capture of a busy stream'
        stream.capture, stream.spoiled = [], False
        return (OK,)

    def cudaStreamEndCapture(self, stream):
        recorded, stream.capture = stream.capture, None
        return (SPOILED, None) if stream.spoiled else (OK, recorded)

    def cudaGraphInstantiate(self, graph, flags):
        self.graphs.append(list(graph))
        return OK, self.graphs[-1]

    def cudaGraphDestroy(self, graph):
        return (OK,)

    def cudaGraphExecDestroy(self, graph):
        self.graphs = [other for other in self.graphs if other is not graph]
        return (OK,)

    def cudaGraphLaunch(self, graph, stream):
        assert any(graph is other for other in self.graphs), 'launch of a destroyed graph'
        self.launches += 1
        for work in graph:
            stream.enqueue(work)
        return (OK,)
