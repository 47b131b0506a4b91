# SPDX-License-Identifier: Apache-2.0
"""Bits packed into words, and convolutions of them by xor and popcount (bidrn sheet, section 7)."""

from __future__ import annotations

from dataclasses import dataclass
import functools
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
import numpy as np

WORD = 64
#: pixels that share each word of the weights while it is in a register.
_TILE = 8
#: taps of even and odd outputs of a deconvolution, and how many of their pixels lie before.
_PARITIES = (([3, 1], 1), ([2, 0], 0))


def pack(values: np.ndarray) -> np.ndarray:
    """
    Pack signs along the last axis, `(..., C)` to uint64 `(..., ceil(C / 64))`.

    Bit c % 64 of word c // 64 is 1 where the value is >= 0, both zeros included; the rest of the
    last word is 0.
    """
    octets = np.packbits(values >= 0, axis=-1, bitorder='little')
    missing = -octets.shape[-1] % (WORD // 8)
    octets = np.pad(octets, [(0, 0)] * (octets.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(octets).view('<u8')


@dataclass(frozen=True)
class PackedKernel:
    """
    Weights of a convolution of bits, prepared once.

    bits      (O, kh kw words) uint64, tap by tap
    tap_sums  (kh kw, O) int32, sum of a tap's weights, +-1 each, over the channels
    size      (kh, kw);  channels: how many of the bits of a pixel count
    """

    bits: np.ndarray
    tap_sums: np.ndarray
    size: tuple[int, int]
    channels: int

    @classmethod
    def of(cls, weights: np.ndarray) -> PackedKernel:
        """Prepare weights `(O, C, kh, kw)`, of which the signs count."""
        outputs, channels, *size = weights.shape
        rows = np.ascontiguousarray(weights.transpose(0, 2, 3, 1))
        sums = np.where(rows >= 0, 1, -1).sum(-1, dtype=np.int32).reshape(outputs, -1)
        return cls(pack(rows).reshape(outputs, -1), np.ascontiguousarray(sums.T), tuple(size),
                   channels)


def convolve(
        bits: np.ndarray, kernel: PackedKernel, stride: int = 1, padding: int = 0) -> np.ndarray:
    """
    Convolve packed signs with packed signs: int32 `(N, H', W', O)`.

    bits     uint64 (N, H, W, words), see `pack`
    padding  rows and columns around the map that add 0 to the sums, not -1 or +1
    """
    rows, columns = ((length + 2 * padding - taps) // stride + 1
                     for length, taps in zip(bits.shape[1:3], kernel.size))
    return _sums(bits, kernel, stride, (padding, padding), (rows, columns))


class PackedDeconvolution:
    """
    Transposed convolution 4x4 of stride 2 and padding 1 of bits.

    Outputs of equal parity are a 2x2 convolution each: rows 3 and 1 of the kernel see the pixel
    above and the pixel itself, rows 2 and 0 the pixel itself and the one below.
    """

    def __init__(self, weights: np.ndarray) -> None:
        """`weights` `(C, O, 4, 4)`, as transposed convolutions have them."""
        dense = weights.transpose(1, 0, 2, 3)
        self._parts = [
            (row, column, (top, left), PackedKernel.of(dense[:, :, y_taps][..., x_taps]))
            for row, (y_taps, top) in enumerate(_PARITIES)
            for column, (x_taps, left) in enumerate(_PARITIES)]

    def __call__(self, bits: np.ndarray) -> np.ndarray:
        """Sums int32 `(N, 2 H, 2 W, O)` of packed signs `(N, H, W, words)`."""
        count, height, width, _ = bits.shape
        outputs = len(self._parts[0][3].bits)
        sums = np.empty((count, 2 * height, 2 * width, outputs), np.int32)
        for row, column, before, kernel in self._parts:
            sums[:, row::2, column::2] = _sums(bits, kernel, 1, before, (height, width))
        return sums


def _sums(
        bits: np.ndarray, kernel: PackedKernel, stride: int, before: tuple[int, int],
        size: tuple[int, int]) -> np.ndarray:
    """Sums `(N, *size, O)`; `before` are the rows and columns of padding above and left."""
    after = [max(0, (count - 1) * stride + taps - gap - length) for count, taps, gap, length
             in zip(size, kernel.size, before, bits.shape[1:3])]
    # Bits of 0, that is of -1, whose share is taken out again below.
    framed = np.pad(bits, ((0, 0), *zip(before, after), (0, 0)))
    out = np.empty((len(bits), *size, len(kernel.bits)), np.int32)
    for image, sums in zip(framed, out):
        _convolve(image, kernel.bits, sums.reshape(-1, sums.shape[-1]), kernel.channels,
                  stride, size[1], *kernel.size)
    outside = _outside(bits.shape[1:3], kernel.size, stride, before, size)
    border = outside.any(-1)
    out[:, border] += outside[border].astype(np.int32) @ kernel.tap_sums
    return out


@functools.lru_cache(maxsize=256)
def _outside(
        shape: tuple[int, int], taps: tuple[int, int], stride: int, before: tuple[int, int],
        size: tuple[int, int]) -> np.ndarray:
    """Which taps `(*size, kh kw)` of each output lie outside the map."""
    off = []
    for length, count, gap, places in zip(shape, taps, before, size):
        seen = np.arange(places)[:, None] * stride - gap + np.arange(count)
        off.append((seen < 0) | (seen >= length))
    return (off[0][:, None, :, None] | off[1][None, :, None, :]).reshape(*size, -1)


@intrinsic
def _ones(_: Any, word: types.Type) -> tuple[Any, Any]:
    """Count the ones of a word by the processor's own instruction."""
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        count = builder.module.declare_intrinsic('llvm.ctpop', [arguments[0].type])
        return builder.call(count, arguments)
    return types.uint64(types.uint64), generate


@njit(nogil=True, cache=True)
def _convolve(
        bits: np.ndarray, weights: np.ndarray, sums: np.ndarray, channels: int, stride: int,
        columns: int, tall: int, wide: int) -> None:
    """Sums `(pixels, O)` over a framed map, row by row of `columns` pixels."""
    seen = np.empty((_TILE, weights.shape[1]), np.uint64)
    taps, last = channels * tall * wide, len(sums) - 1
    for first in range(0, len(sums), _TILE):
        for pixel in range(_TILE):
            y, x = divmod(min(first + pixel, last), columns)
            _look(bits, seen[pixel], y * stride, x * stride, tall, wide)
        for output in range(len(weights)):
            different = _differences(seen, weights[output])
            for pixel in range(_TILE):
                sums[min(first + pixel, last), output] = taps - 2 * np.int64(different[pixel])


@njit(nogil=True, cache=True, inline='always')
def _look(
        bits: np.ndarray, seen: np.ndarray, top: int, left: int, tall: int, wide: int) -> None:
    """Put what one pixel sees into a row, tap by tap."""
    place = 0
    for row in range(top, top + tall):
        for column in range(left, left + wide):
            for word in range(bits.shape[2]):
                seen[place] = bits[row, column, word]
                place += 1


@njit(nogil=True, cache=True, inline='always')
def _differences(seen: np.ndarray, weights: np.ndarray) -> tuple[int, ...]:
    """Bits in which each of _TILE rows differs from the weights."""
    # Eight names, not an array: they stay in registers.
    a = b = c = d = e = f = g = h = np.uint64(0)
    for place in range(len(weights)):
        weight = weights[place]
        a += _ones(seen[0, place] ^ weight)
        b += _ones(seen[1, place] ^ weight)
        c += _ones(seen[2, place] ^ weight)
        d += _ones(seen[3, place] ^ weight)
        e += _ones(seen[4, place] ^ weight)
        f += _ones(seen[5, place] ^ weight)
        g += _ones(seen[6, place] ^ weight)
        h += _ones(seen[7, place] ^ weight)
    return a, b, c, d, e, f, g, h
