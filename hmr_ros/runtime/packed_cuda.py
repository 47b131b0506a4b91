# SPDX-License-Identifier: Apache-2.0
"""
Layers of packed bits on a GPU, as packed_layers.py has them on the processor (bidrn sheet, 7).

Sums are the same integers, and what follows them is computed in the same order: outputs are the
same numbers, bit by bit. Not yet run on a device: the kernel is compiled for GPUs, and run on the
processor by tests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
import ctypes
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hmr_ros.runtime.cuda import CudaSession
from hmr_ros.runtime.engine import EngineError
from hmr_ros.runtime.kernel_compiler import compile_kernel
from hmr_ros.runtime.packed_bits import PackedKernel, words_of
from hmr_ros.runtime.packed_kernels import Geometry
from hmr_ros.runtime.packed_layers import (
    PackedDeconvolution, PackedLayer, parity_geometries, Signal, Workplace)

#: kernels by their sources; all take arrays, then whole numbers, and have blocks of 32 x 8 threads.
SOURCES = {
    'packed_kernel.cu': ('packed_layer',),
    'packed_floats.cu': ('stem_lines', 'stem_pool', 'project')}
#: pixels of a side of a block of packed_kernel.cu, its outputs, and the most taps of a side.
TILE, OUTPUTS, TAPS = 8, 32, 3


class DeviceArray(NamedTuple):
    """An array on the GPU, contiguous; `dtype` is numpy's name."""

    address: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class CudaSignal(NamedTuple):
    """
    What goes from layer to layer on the GPU.

    bits    (N, H, W, words) uint32, twice the words of a `Signal`, the lower half of each first
    values  (N, H, W, C) float32, not clipped
    """

    bits: DeviceArray
    values: DeviceArray


class CudaPlace:
    """
    Kernels and memory that the layers of one network share on the GPU.

    They belong to a session and are freed with it. As in `Workplace`, arrays are used again after
    RING more of their dtype were asked for. Use it from the session's thread.
    """

    def __init__(self, session: CudaSession, compute_capability: str) -> None:
        """Raises EngineError when the kernels cannot be compiled or loaded."""
        self._session = session
        self._kernels: dict[str, Any] = {}
        for source, names in SOURCES.items():
            code = compile_kernel(Path(__file__).with_name(source), compute_capability)
            self._kernels |= {name: session.load_kernel(code, name) for name in names}
        self._rings: dict[str, deque[DeviceArray]] = {}
        self._pinned = np.empty(0, np.uint8)

    def copy_of(self, array: np.ndarray) -> DeviceArray:
        """Return a new array of the GPU with the content of one, and wait until it is there."""
        target = DeviceArray(
            self._session.device_memory(array.nbytes), array.shape, array.dtype.name)
        return self.write(target, array)

    def write(self, target: DeviceArray, array: np.ndarray) -> DeviceArray:
        """Copy `array` to one of its shape on the GPU, and wait until it is there."""
        room = self._staging(target)
        np.copyto(room, array, casting='no')
        self._session.upload(target.address, room)
        self._session.wait()
        return target

    def read(self, source: DeviceArray) -> np.ndarray:
        """Wait for the GPU, and return what an array of it holds."""
        room = self._staging(source)
        self._session.download(room, source.address)
        self._session.wait()
        return room.copy()

    def _staging(self, like: DeviceArray) -> np.ndarray:
        """Pinned memory in which nothing is under way: all who use it wait."""
        if len(self._pinned) < like.nbytes:
            if len(self._pinned):
                self._session.free_pinned(self._pinned)
            self._pinned = self._session.pinned_memory(like.nbytes)
        return self._pinned[:like.nbytes].view(like.dtype).reshape(like.shape)

    def empty(self, shape: tuple[int, ...], dtype: str = 'float32') -> DeviceArray:
        """Return an array of anything."""
        ring = self._rings.setdefault(
            dtype, deque([DeviceArray(0, (0,), dtype)] * Workplace.RING))
        ring.rotate(-1)
        found = DeviceArray(ring[0].address, shape, dtype)
        if ring[0].nbytes >= found.nbytes:
            return found
        if ring[0].address:
            self._session.wait()
            self._session.free_device(ring[0].address)
        ring[0] = DeviceArray(self._session.device_memory(found.nbytes), shape, dtype)
        return ring[0]

    def signal(self, count: int, height: int, width: int, channels: int) -> CudaSignal:
        """Return a CudaSignal to write to, with bits of all its words."""
        size = count, height, width
        return CudaSignal(self.empty((*size, 2 * words_of(channels)), 'uint32'),
                          self.empty((*size, channels)))

    def take(self, signal: Signal) -> CudaSignal:
        """Copy a Signal of the processor."""
        found = self.signal(*signal.values.shape)
        return CudaSignal(self.write(found.bits, signal.bits.view('<u4')),
                          self.write(found.values, signal.values))

    def launch(
            self, kernel: str, grid: tuple[int, int, int], arrays: Sequence[DeviceArray | None],
            numbers: Sequence[int]) -> None:
        """Enqueue a kernel; None is a null pointer."""
        self._session.launch_kernel(self._kernels[kernel], grid, (OUTPUTS, TILE, 1), [
            *((array.address if array else 0, ctypes.c_void_p) for array in arrays),
            *((number, ctypes.c_int) for number in numbers)])


@dataclass(frozen=True)
class CudaLayer:
    """
    A PackedLayer on the GPU: any of the five modules of the paper.

    layer     the same on the processor, with O outputs in G groups of 32, an even number of them
    weights   (G, branches, words, taps, 32) uint32
    tap_sums  (branches, taps, 32 G) int32
    bend      (branches, 5, 32 G) float32;  keep: (32 G,) float32
    """

    layer: PackedLayer
    weights: DeviceArray
    tap_sums: DeviceArray
    bend: DeviceArray
    keep: DeviceArray

    @classmethod
    def of(cls, place: CudaPlace, layer: PackedLayer) -> CudaLayer:
        """Copy a layer; EngineError when its taps or stride are more than the kernel has."""
        if max(layer.kernel.size) > TAPS or layer.stride > 2:
            raise EngineError(
                f'a packed layer has {layer.kernel.size} taps and stride {layer.stride}; '
                f'packed_kernel.cu has at most {TAPS}x{TAPS} and 2: run it on the processor')
        sums = layer.kernel.tap_sums.transpose(2, 0, 1, 3)
        bend = layer.bend.transpose(1, 2, 0, 3)
        return cls(layer, place.copy_of(_device_weights(layer.kernel)), *(
            place.copy_of(_padded(rows)) for rows in (
                sums.reshape(*sums.shape[:2], -1).astype(np.int32),
                bend.reshape(*bend.shape[:2], -1), layer.keep)))

    def __call__(self, place: CudaPlace, signal: CudaSignal,
                 around: DeviceArray | None = None) -> CudaSignal:
        """
        Map a signal to one of O channels, in which `around`, of its values' shape, is added.

        Raises ValueError when the signal has other channels than the weights, or `around` another
        shape.
        """
        count, height, width, _ = signal.values.shape
        geometry = self.layer.geometry(height, width)
        out = place.signal(count, geometry.height, geometry.width, self.layer.kernel.outputs)
        if around is not None and around.shape != out.values.shape:
            raise ValueError(f'{around.shape} is added to a layer of {out.values.shape}')
        _run(place, self, signal, around, geometry, out)
        return out


def _padded(rows: np.ndarray) -> np.ndarray:
    """Rows of O outputs `(..., O)`, and zeros up to whole words of the processor's."""
    missing = -rows.shape[-1] % (2 * OUTPUTS)
    return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)])


def _device_weights(kernel: PackedKernel) -> np.ndarray:
    """Words of 32 bits `(G, branches, words, taps, 32)`, outputs side by side."""
    taps, branches = math.prod(kernel.size), kernel.lanes.shape[1]
    rows = np.ascontiguousarray(kernel.lanes.transpose(0, 3, 1, 2)).view('<u4')
    rows = _padded(rows.reshape(kernel.outputs, -1).T)
    rows = rows.reshape(branches, taps, -1, rows.shape[1] // OUTPUTS, OUTPUTS)
    return np.ascontiguousarray(rows.transpose(3, 0, 2, 1, 4))


def _run(
        place: CudaPlace, layer: CudaLayer, signal: CudaSignal, around: DeviceArray | None,
        geometry: Geometry, out: CudaSignal) -> None:
    """Enqueue what writes a layer's outputs to `out`."""
    count, height, width, seen = signal.values.shape
    groups, branches, words = layer.weights.shape[:3]
    kernel = layer.layer.kernel
    if seen != branches * kernel.channels or signal.bits.shape[3] != branches * words:
        raise ValueError(f'a signal has {seen} channels, but a packed layer takes {branches} times '
                         f'{kernel.channels}')
    tiles = -(-geometry.height // TILE) * -(-geometry.width // TILE)
    values = signal.values if layer.layer.keep.any() else None
    place.launch(
        'packed_layer', (tiles, groups, count),
        (signal.bits, values, around, layer.weights, layer.tap_sums, layer.bend, layer.keep,
         out.values, out.bits),
        (height, width, words, branches, kernel.channels, geometry.tall, geometry.wide,
         geometry.stride, geometry.top, geometry.left, geometry.height, geometry.width,
         kernel.outputs, geometry.step, geometry.row, geometry.column))


@dataclass(frozen=True)
class CudaDeconvolution:
    """A PackedDeconvolution on the GPU: a convolution for the outputs of each parity."""

    layers: tuple[CudaLayer, ...]

    @classmethod
    def of(cls, place: CudaPlace, deconvolution: PackedDeconvolution) -> CudaDeconvolution:
        """Copy one."""
        return cls(tuple(CudaLayer.of(place, layer) for layer in deconvolution.layers))

    def __call__(self, place: CudaPlace, signal: CudaSignal) -> CudaSignal:
        """Map a signal of H x W to one of 2 H x 2 W."""
        count, height, width, _ = signal.values.shape
        out = place.signal(
            count, 2 * height, 2 * width, self.layers[0].layer.kernel.outputs)
        for layer, geometry in zip(self.layers, parity_geometries(height, width)):
            _run(place, layer, signal, None, geometry, out)
        return out
