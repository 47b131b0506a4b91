# SPDX-License-Identifier: Apache-2.0
"""Compiled passes over the pixels of binary layers, and of what is beside them."""

from __future__ import annotations

from typing import NamedTuple

from numba import njit
import numpy as np

from hmr_ros.runtime.packed_vectors import eight_outputs, LANES, PIXELS


class Geometry(NamedTuple):
    """
    What the pixels of a layer see, and where they go.

    tall, wide     taps
    stride         pixels of the input from one to the next
    top, left      rows and columns of the first one's taps that lie outside
    height, width  pixels of the output that are computed
    step           pixel (y, x) goes to (step y + row, step x + column): 2 for deconvolutions
    """

    tall: int
    wide: int
    stride: int
    top: int
    left: int
    height: int
    width: int
    step: int = 1
    row: int = 0
    column: int = 0


@njit(nogil=True, cache=True)
def layer_pixels(
        first: int, last: int, bits: np.ndarray, values: np.ndarray, kept_offsets: np.ndarray,
        weights: np.ndarray, tap_sums: np.ndarray, channels: int, bend: np.ndarray,
        keep: np.ndarray, around: np.ndarray, geometry: Geometry, out: np.ndarray,
        octets: np.ndarray) -> None:
    """
    Compute pixels `first` to `last` of all pictures: bend(sums) + keep * shortcut + around.

    bits      (N, H, W, words) uint64;  values: (N, H, W, C) float32, not clipped
    kept_offsets  int64, elements from a pixel's first value to those that are clipped and added
    weights   (groups, branches, places, 8) uint64;  tap_sums: (taps, groups, branches, 8) float32
    channels  bits that count of a branch's words
    bend      (groups, branches, 5, 8) float32;  keep: (O,) float32
    around    as `out`, or (0, 0, 0, 0) for none
    out       (N, H', W', O) float32;  octets: (N, H', W', octets) uint8, signs of `out`
    """
    groups, branches, places, _ = weights.shape
    most = channels * geometry.tall * geometry.wide
    seen = np.empty((branches, places, PIXELS), np.uint64)
    plain = np.full((1, branches, PIXELS, LANES), most, np.float32)
    bordered = np.empty((groups, branches, PIXELS, LANES), np.float32)
    width = max(LANES, values.shape[3] // branches)
    kept_rows, around_rows = np.zeros(PIXELS, np.int64), np.zeros(PIXELS, np.int64)
    out_rows, octet_rows = np.empty(PIXELS, np.int64), np.empty(PIXELS, np.int64)
    beside = around if len(around) else np.zeros((1, 1, 1, len(keep)), np.float32)
    for begin in range(first, last, PIXELS):
        outside = False
        for pixel in range(PIXELS):
            # Beyond the last one it is computed once more, which is simpler than less.
            image, y, x = _place(min(begin + pixel, last - 1), geometry)
            outside |= _look(bits, image, seen, pixel, y, x, geometry)
            kept_rows[pixel] = values.shape[3] * (
                (image * values.shape[1] + y * geometry.stride) * values.shape[2]
                + x * geometry.stride)
            row = ((image * out.shape[1] + y * geometry.step + geometry.row) * out.shape[2]
                   + x * geometry.step + geometry.column)
            out_rows[pixel], octet_rows[pixel] = row * out.shape[3], row * octets.shape[3]
            if len(around):
                around_rows[pixel] = out_rows[pixel]
        if outside:
            _border(bordered, begin, last, most, tap_sums, bits.shape[1:3], geometry)
        full, step = (bordered, branches) if outside else (plain, 0)
        for group in range(groups):
            eight_outputs(seen, weights, full, bend, keep, values, beside, out, octets,
                          kept_offsets, kept_rows, around_rows, out_rows, octet_rows, group,
                          branches, places, len(kept_offsets), width, group * step)


@njit(nogil=True, cache=True, inline='always')
def _place(pixel: int, geometry: Geometry) -> tuple[int, int, int]:
    """Image, row and column of a pixel of all images."""
    line = pixel // geometry.width
    return line // geometry.height, line % geometry.height, pixel - line * geometry.width


@njit(nogil=True, cache=True)
def _look(
        bits: np.ndarray, image: int, seen: np.ndarray, pixel: int, y: int, x: int,
        geometry: Geometry) -> bool:
    """Put what a pixel sees into `seen`, zeros outside; tell whether there is an outside."""
    words = seen.shape[1] // (geometry.tall * geometry.wide)
    top, left = y * geometry.stride - geometry.top, x * geometry.stride - geometry.left
    outside = (top < 0 or left < 0 or top + geometry.tall > bits.shape[1]
               or left + geometry.wide > bits.shape[2])
    place = 0
    for row in range(top, top + geometry.tall):
        for column in range(left, left + geometry.wide):
            inside = 0 <= row < bits.shape[1] and 0 <= column < bits.shape[2]
            for branch in range(seen.shape[0]):
                for word in range(words):
                    seen[branch, place + word, pixel] = (
                        bits[image, row, column, branch * words + word] if inside
                        else np.uint64(0))
            place += words
    return outside


@njit(nogil=True, cache=True, inline='always')
def _clipped(value: np.float32) -> np.float32:
    # Python's min and max look at NaN, which keeps compilers from using vectors.
    value = value if value > np.float32(-1) else np.float32(-1)
    return value if value < np.float32(1) else np.float32(1)


@njit(nogil=True, cache=True)
def _border(
        bordered: np.ndarray, begin: int, last: int, most: int, tap_sums: np.ndarray,
        size: tuple[int, int], geometry: Geometry) -> None:
    """Sums if nothing differed: bits outside count as -1, whose share is taken out again."""
    bordered[:] = most
    for pixel in range(PIXELS):
        _, y, x = _place(min(begin + pixel, last - 1), geometry)
        for tap in range(len(tap_sums)):
            row = y * geometry.stride - geometry.top + tap // geometry.wide
            column = x * geometry.stride - geometry.left + tap % geometry.wide
            if not (0 <= row < size[0] and 0 <= column < size[1]):
                for group in range(bordered.shape[0]):
                    for branch in range(bordered.shape[1]):
                        for lane in range(LANES):
                            bordered[group, branch, pixel, lane] += tap_sums[
                                tap, group, branch, lane]


@njit(nogil=True, cache=True)
def clipped_rows(first: int, last: int, values: np.ndarray, stride: int, out: np.ndarray) -> None:
    """Put every `stride`-th pixel of `values` (N, H, W, C), clipped to +-1, into rows of `out`."""
    height, width = values.shape[1] // stride, values.shape[2] // stride
    for pixel in range(first, last):
        line = pixel // width
        row = values[line // height, line % height * stride, pixel % width * stride]
        for i in range(len(row)):
            out[pixel, i] = _clipped(row[i])


@njit(nogil=True, cache=True)
def seen_by_stem(first: int, last: int, framed: np.ndarray, out: np.ndarray) -> None:
    """Put the 7x7 pixels that lines `first` to `last` of the stem see into rows (.., 7 * 7 * 3)."""
    for line in range(first, last):
        for x in range(out.shape[1]):
            for row in range(7):
                for i in range(21):
                    out[line - first, x, row, i] = framed[2 * line + row, 6 * x + i]


@njit(nogil=True, cache=True)
def pool_line(above: np.ndarray, here: np.ndarray, below: np.ndarray, out: np.ndarray) -> None:
    """Maxima (W / 2, C) of 3x3 pixels of three lines (W, C), around every second one."""
    for x in range(len(out)):
        first = max(0, 2 * x - 1)
        for i in range(out.shape[1]):
            out[x, i] = here[first, i]
        for column in range(first, 2 * x + 2):
            for i in range(out.shape[1]):
                out[x, i] = _larger(_larger(above[column, i], here[column, i]),
                                    _larger(below[column, i], out[x, i]))


@njit(nogil=True, cache=True, inline='always')
def _larger(one: np.float32, other: np.float32) -> np.float32:
    return one if one > other else other
