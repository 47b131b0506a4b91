# SPDX-License-Identifier: Apache-2.0
"""Layers of a binary network on packed bits, all that follows a sum in one pass (sheet, 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import math
import os
from typing import NamedTuple

import numpy as np

from hmr_ros.runtime.packed_bits import pack, PackedKernel, WORD, words_of
from hmr_ros.runtime.packed_kernels import Geometry, layer_pixels
from hmr_ros.runtime.packed_vectors import LANES, PIXELS

#: taps of even and odd outputs of a deconvolution, and how many of their pixels lie before.
PARITIES = (([3, 1], 1), ([2, 0], 0))
_NOTHING = np.zeros((0, 0, 0, 0), np.float32)


class Signal(NamedTuple):
    """
    What goes from layer to layer.

    bits    (N, H, W, words) uint64, signs of the values
    values  (N, H, W, C) float32, not clipped
    """

    bits: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Signal:
        """Pack values `(N, H, W, C)`, contiguous float32."""
        return cls(pack(values), values)


class Workplace:
    """
    Memory and threads that the layers of one network share.

    Arrays are used again after RING more were asked for, which is longer than any layer's result
    is needed within a block.
    """

    RING = 5

    def __init__(self, threads: int = 1) -> None:
        """`threads`: cores one call may use; 0 for all that the process has."""
        self.threads = threads or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        self._memory: list[np.ndarray] = [np.empty(0, np.uint8)] * self.RING
        self._next = 0

    def empty(self, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """Return an array of anything."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        self._next = (self._next + 1) % self.RING
        if self._memory[self._next].nbytes < size:
            self._memory[self._next] = np.empty(size, np.uint8)
        return self._memory[self._next][:size].view(dtype).reshape(shape)

    def signal(self, count: int, height: int, width: int, channels: int) -> Signal:
        """Return a Signal to write to; bits beyond its channels are 0."""
        make = np.zeros if channels % WORD else np.empty
        bits = make((count, height, width, words_of(channels)), np.uint64)
        return Signal(bits, self.empty((count, height, width, channels)))

    def share(self, count: int, work: Callable[[int, int], None]) -> None:
        """Do `work(first, last)` for parts of 0 to `count`, on all threads."""
        parts = min(self.threads, -(-count // PIXELS))
        if self._pool is None or parts < 2:
            work(0, count)
            return
        edges = [count * part // parts // PIXELS * PIXELS for part in range(parts)] + [count]
        for job in [self._pool.submit(work, *edge) for edge in zip(edges, edges[1:])]:
            job.result()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def bend_rows(
        alpha: np.ndarray, act: tuple[np.ndarray, np.ndarray, np.ndarray],
        scale: np.ndarray | float = 1.0, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """
    Fold scale, RPReLU and batch norm of O channels into two lines: float32 `(5, O)`.

    alpha are the scales of the weights; act RPReLU's gamma, beta and zeta; scale and offset the
    norm's line. A sum s becomes above * s + above_offset where s > threshold, else
    below * s + below_offset; rows: threshold, above, above_offset, below, below_offset. Channels
    whose latent weights are all 0 have alpha 0, and give what RPReLU gives for 0.
    """
    gamma, beta, zeta = (np.asarray(value, np.float64) for value in act)
    alpha = np.asarray(alpha, np.float64)
    threshold = np.divide(
        gamma, alpha, out=np.where(gamma < 0, -np.inf, np.inf), where=alpha > 0)
    rows = (threshold, scale * alpha, offset + scale * (zeta - gamma),
            scale * alpha * beta, offset + scale * (zeta - beta * gamma))
    return np.stack([np.broadcast_to(row, alpha.shape) for row in rows]).astype(np.float32)


def line_rows(scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Rows `(5, O)` of what has no bend: scale * s + offset."""
    return np.stack([np.zeros_like(scale), scale, offset, scale, offset]).astype(np.float32)


@dataclass(frozen=True)
class PackedLayer:
    """
    A local convolution residual and its norm: all five modules of the paper.

    kernel  weights; FDR has as many branches as it joins, the others one
    bend    (O / 8, branches, 5, 8) float32, see `bend_rows`; a norm's offset is in one branch
    keep    (O,) float32, what each clipped value of the shortcut counts: the norm's scale, a
            quarter of it with stride 2, or 0
    stride  1, or 2 with a shortcut of means
    """

    kernel: PackedKernel
    bend: np.ndarray
    keep: np.ndarray
    stride: int = 1

    @classmethod
    def of(cls, kernel: PackedKernel, rows: np.ndarray, keep: np.ndarray,
           stride: int = 1) -> PackedLayer:
        """`rows` are `(branches, 5, O)`, as `bend_rows` gives them; `keep` is the norm's scale."""
        bend = rows.reshape(len(rows), 5, -1, LANES).transpose(2, 0, 1, 3)
        return cls(kernel, np.ascontiguousarray(bend), keep / np.float32(stride ** 2), stride)

    def kept_offsets(self, width: int) -> np.ndarray:
        """Elements from a pixel's first value to those that a shortcut adds up; map of `width`."""
        if not self.keep.any():
            return np.zeros(0, np.int64)
        branches = self.bend.shape[1]
        channels = branches * self.kernel.channels
        corner = np.arange(self.stride)
        pixels = (corner[:, None] * width + corner).ravel() * channels
        chunks = np.arange(branches) * self.kernel.channels
        return (pixels[:, None] + chunks).ravel()

    def geometry(self, height: int, width: int) -> Geometry:
        """What pixels see of a map of this size."""
        tall, wide = self.kernel.size
        return Geometry(tall, wide, self.stride, tall // 2, wide // 2, height // self.stride,
                        width // self.stride)

    def __call__(
            self, place: Workplace, signal: Signal, around: np.ndarray = _NOTHING) -> Signal:
        """
        Map a Signal to one of O channels, in which `around`, of its values' shape, is added.

        Raises ValueError when the signal has other channels than the weights.
        """
        count, height, width, _ = signal.values.shape
        geometry = self.geometry(height, width)
        out = place.signal(count, geometry.height, geometry.width, self.kernel.outputs)
        run_layer(place, self, signal, around, geometry, out)
        return out


def run_layer(
        place: Workplace, layer: PackedLayer, signal: Signal, around: np.ndarray,
        geometry: Geometry, out: Signal) -> None:
    """Write a layer's outputs to `out`."""
    kernel, octets = layer.kernel, out.bits.view(np.uint8)
    offsets = layer.kept_offsets(signal.values.shape[2])

    def work(first: int, last: int) -> None:
        layer_pixels(first, last, signal.bits, signal.values, offsets, kernel.lanes,
                     kernel.tap_sums, kernel.channels, layer.bend, layer.keep, around, geometry,
                     out.values, octets)
    place.share(len(out.values) * geometry.height * geometry.width, work)


@dataclass(frozen=True)
class PackedDeconvolution:
    """
    Transposed convolution 4x4 of stride 2 and padding 1 of bits, and its norm.

    Outputs of equal parity are a 2x2 convolution each: rows 3 and 1 of the kernel see the pixel
    above and the pixel itself, rows 2 and 0 the pixel itself and the one below.
    """

    layers: tuple[PackedLayer, ...]

    @classmethod
    def of(cls, bits: np.ndarray, channels: int, rows: np.ndarray) -> PackedDeconvolution:
        """`bits` are `(O, 1, 16, words)`, tap by tap; `rows` as `line_rows` gives them."""
        taps = bits.reshape(len(bits), 1, 4, 4, -1)
        return cls(tuple(
            PackedLayer.of(
                PackedKernel.of(
                    taps[:, :, y_taps][:, :, :, x_taps].reshape(len(bits), 1, 4, -1), channels,
                    (2, 2)),
                rows[None], np.zeros(len(bits), np.float32))
            for y_taps, _ in PARITIES for x_taps, _ in PARITIES))

    def __call__(self, place: Workplace, signal: Signal) -> Signal:
        """Map a Signal of H x W to one of 2 H x 2 W."""
        count, height, width, _ = signal.bits.shape
        out = place.signal(count, 2 * height, 2 * width, self.layers[0].kernel.outputs)
        for layer, geometry in zip(self.layers, parity_geometries(height, width)):
            run_layer(place, layer, signal, _NOTHING, geometry, out)
        return out


def parity_geometries(height: int, width: int) -> Iterator[Geometry]:
    """What the outputs of each parity see of a map of this size, in the order of the layers."""
    for row, (_, above) in enumerate(PARITIES):
        for column, (_, before) in enumerate(PARITIES):
            yield Geometry(2, 2, 1, above, before, height, width, 2, row, column)
