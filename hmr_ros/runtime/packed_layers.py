# SPDX-License-Identifier: Apache-2.0
"""Layers of a binary network on packed bits, all that follows a sum in one pass (sheet, 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Sequence

from numba import njit
import numpy as np

from hmr_ros.runtime.packed_bits import convolve, pack, PackedKernel, WORD


class Signal(NamedTuple):
    """
    What goes from layer to layer.

    bits    (N, H, W, words) uint64, signs of the values
    values  (N, H, W, C) float32, clipped to +-1
    """

    bits: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Signal:
        """Clip and pack values `(N, H, W, C)`."""
        return cls(pack(values), np.clip(values, -1, 1, dtype=np.float32))


@dataclass(frozen=True)
class Bend:
    """
    Scale, RPReLU and batch norm of O channels folded into two lines; float32 (O,) each.

    A sum s becomes above * s + above_offset where s > threshold, else below * s + below_offset.
    """

    threshold: np.ndarray
    above: np.ndarray
    above_offset: np.ndarray
    below: np.ndarray
    below_offset: np.ndarray

    @classmethod
    def of(
            cls, alpha: np.ndarray, act: tuple[np.ndarray, np.ndarray, np.ndarray],
            scale: np.ndarray | float = 1.0, offset: np.ndarray | float = 0.0) -> Bend:
        """
        Fold the scales of the weights, RPReLU's gamma, beta and zeta, and a norm's line behind it.

        Channels whose latent weights are all 0 have alpha 0, and give what RPReLU gives for 0.
        """
        gamma, beta, zeta = (np.asarray(value, np.float64) for value in act)
        alpha = np.asarray(alpha, np.float64)
        live = alpha > 0
        threshold = np.divide(
            gamma, alpha, out=np.where(gamma < 0, -np.inf, np.inf), where=live)
        rows = (threshold, scale * alpha, offset + scale * (zeta - gamma),
                scale * alpha * beta, offset + scale * (zeta - beta * gamma))
        return cls(*(np.broadcast_to(row, alpha.shape).astype(np.float32) for row in rows))


@dataclass(frozen=True)
class PackedResidual:
    """
    A local convolution residual and its norm: Base, DScR, FUR and DSaR of the paper.

    kernel  weights
    bend    alpha, RPReLU and norm
    keep    (O,) float32, the norm's scale, for the shortcut
    stride  1, or 2 with a shortcut of means
    """

    kernel: PackedKernel
    bend: Bend
    keep: np.ndarray
    stride: int = 1

    def __call__(self, signal: Signal) -> np.ndarray:
        """Map a Signal of C channels to values `(N, H', W', O)` float32, not clipped."""
        sums = convolve(signal.bits, self.kernel, self.stride, self.kernel.size[0] // 2)
        kept = _halved(signal.values) if self.stride == 2 else signal.values
        return _finish([(sums, self.bend)], [kept], self.keep, _none(sums))


@dataclass(frozen=True)
class PackedFusion:
    """
    FDR of the paper and its norm: branches of the channels, each convolved and kept, then added.

    kernels, bends  of each branch; the norm's scale is in the bends
    keep, offset    (O,) float32, the norm's line
    """

    kernels: tuple[PackedKernel, ...]
    bends: tuple[Bend, ...]
    keep: np.ndarray
    offset: np.ndarray

    def __call__(self, signal: Signal) -> np.ndarray:
        """Map a Signal of r O channels, O a multiple of 64, to values `(N, H, W, O)`."""
        words = self.kernels[0].channels // WORD
        parts = np.split(signal.values, len(self.kernels), axis=-1)
        sums = [
            (convolve(np.ascontiguousarray(signal.bits[..., words * j:words * (j + 1)]), kernel, 1,
                      kernel.size[0] // 2), bend)
            for j, (kernel, bend) in enumerate(zip(self.kernels, self.bends))]
        return _finish(sums, parts, self.keep, self.offset)


def _none(sums: np.ndarray) -> np.ndarray:
    return np.zeros(sums.shape[-1], np.float32)


def _halved(values: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels; H and W are even."""
    count, height, width, channels = values.shape
    return values.reshape(count, height // 2, 2, width // 2, 2, channels).mean(
        (2, 4), dtype=np.float32)


def _finish(
        sums: Sequence[tuple[np.ndarray, Bend]], kept: Sequence[np.ndarray], keep: np.ndarray,
        offset: np.ndarray) -> np.ndarray:
    """Add up bent sums and shortcuts; a shortcut of fewer channels is repeated."""
    out = np.empty(sums[0][0].shape, np.float32)
    out[:] = offset
    flat = out.reshape(-1, out.shape[-1])
    for (part, bend), values in zip(sums, kept):
        _add(part.reshape(flat.shape), bend.threshold, bend.above, bend.above_offset, bend.below,
             bend.below_offset, np.ascontiguousarray(values).reshape(len(flat), -1), keep, flat)
    return out


@njit(nogil=True, cache=True)
def _add(
        sums: np.ndarray, threshold: np.ndarray, above: np.ndarray, above_offset: np.ndarray,
        below: np.ndarray, below_offset: np.ndarray, kept: np.ndarray, keep: np.ndarray,
        out: np.ndarray) -> None:
    channels = kept.shape[1]
    for pixel in range(len(sums)):
        for first in range(0, sums.shape[1], channels):
            part = slice(first, first + channels)
            _add_row(sums[pixel, part], threshold[part], above[part], above_offset[part],
                     below[part], below_offset[part], kept[pixel], keep[part], out[pixel, part])


@njit(nogil=True, cache=True)
def _add_row(
        sums: np.ndarray, threshold: np.ndarray, above: np.ndarray, above_offset: np.ndarray,
        below: np.ndarray, below_offset: np.ndarray, kept: np.ndarray, keep: np.ndarray,
        out: np.ndarray) -> None:
    """Do it for neighbouring channels, as many at once as fit a register."""
    for i in range(len(sums)):
        found = np.float32(sums[i])
        high = above[i] * found + above_offset[i]
        low = below[i] * found + below_offset[i]
        out[i] += (high if found > threshold[i] else low) + keep[i] * kept[i]
