# SPDX-License-Identifier: Apache-2.0
"""Signs packed into words: of activations, and of the weights of convolutions (sheet, 7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hmr_ros.runtime.packed_vectors import LANES

WORD = 64


def words_of(channels: int) -> int:
    """How many words hold so many bits."""
    return -(-channels // WORD)


def pack(values: np.ndarray) -> np.ndarray:
    """
    Pack signs along the last axis, `(..., C)` to uint64 `(..., ceil(C / 64))`.

    Bit c % 64 of word c // 64 is 1 where the value is >= 0, both zeros included; the rest of the
    last word is 0.
    """
    octets = np.packbits(values >= 0, axis=-1, bitorder='little')
    missing = -octets.shape[-1] % (WORD // 8)
    if missing:
        octets = np.pad(octets, [(0, 0)] * (octets.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(octets).view('<u8')


def pack_weights(weights: np.ndarray, branches: int = 1) -> np.ndarray:
    """
    Pack the signs of weights `(O, branches C, kh, kw)` to uint64 `(O, branches, kh kw, words)`.

    Raises ValueError when O is not a multiple of 8.
    """
    outputs, channels = weights.shape[:2]
    if outputs % LANES:
        raise ValueError(f'a packed layer has {outputs} outputs; expected a multiple of {LANES}')
    rows = weights.reshape(outputs, branches, channels // branches, -1).transpose(0, 1, 3, 2)
    return pack(rows)


@dataclass(frozen=True)
class PackedKernel:
    """
    Weights of a convolution of bits as the compiled code reads them.

    lanes     (O / 8, branches, kh kw words, 8) uint64
    tap_sums  (kh kw, O / 8, branches, 8) float32, sums of a tap's weights, +-1 each
    size      (kh, kw);  channels: of one branch
    """

    lanes: np.ndarray
    tap_sums: np.ndarray
    size: tuple[int, int]
    channels: int

    @classmethod
    def of(cls, bits: np.ndarray, channels: int, size: tuple[int, int]) -> PackedKernel:
        """Arrange what `pack_weights` gives for branches of so many `channels`."""
        outputs, branches, taps, _ = bits.shape
        ones = np.unpackbits(np.ascontiguousarray(bits).view(np.uint8), axis=-1).sum(
            -1, dtype=np.int32)
        sums = (2 * ones - channels).astype(np.float32)
        groups = outputs // LANES
        lanes = bits.reshape(groups, LANES, branches, -1).transpose(0, 2, 3, 1)
        sums = sums.reshape(groups, LANES, branches, taps).transpose(3, 0, 2, 1)
        return cls(np.ascontiguousarray(lanes), np.ascontiguousarray(sums), size, channels)

    @property
    def outputs(self) -> int:
        """How many there are."""
        return LANES * len(self.lanes)
