# SPDX-License-Identifier: Apache-2.0
"""Checks 5 to 7 of the bidrn sheet: sums of bits are the integers that floats give, exactly."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

pytest.importorskip('numba', reason='convolutions of bits need numba')
torch = pytest.importorskip('torch', reason='torch is the reference')
from torch.nn import functional  # noqa: E402

from hmr_ros.runtime.packed_bits import pack, pack_weights, PackedKernel  # noqa: E402
from hmr_ros.runtime.packed_layers import (  # noqa: E402
    line_rows, PackedDeconvolution, PackedLayer, Signal, Workplace)

pytestmark = pytest.mark.torch
#: height, width, channels in and out of the sheet.
SHAPES = [(64, 48, 64, 64), (32, 24, 128, 128), (16, 12, 256, 256), (8, 6, 512, 512),
          (16, 12, 1024, 256), (8, 6, 2248, 256)]


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Numbers of which a tenth are zeros of either sign."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape).astype(np.float32)
    zeros = rng.random(shape) < 0.1
    values[zeros] = np.where(rng.random(zeros.sum()) < 0.5, 0.0, -0.0)
    return values


def signs(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.where(values >= 0, 1.0, -1.0))


def unbent(outputs: int) -> np.ndarray:
    """Rows that let sums through as they are."""
    return line_rows(np.ones(outputs), np.zeros(outputs))


def sums(x: np.ndarray, weights: np.ndarray, stride: int = 1, threads: int = 1) -> Signal:
    """What a layer computes that neither bends nor keeps anything."""
    outputs, channels, *size = weights.shape
    layer = PackedLayer.of(
        PackedKernel.of(pack_weights(weights), channels, tuple(size)), unbent(outputs)[None],
        np.zeros(outputs, np.float32), stride)
    place = Workplace(threads)
    found = layer(place, Signal.of(x))
    place.close()
    return found


def reference(x: np.ndarray, weights: np.ndarray, stride: int = 1) -> np.ndarray:
    """Sums `(N, H', W', O)` by doubles; x (N, H, W, C)."""
    found = functional.conv2d(signs(x).permute(0, 3, 1, 2), signs(weights), None, stride,
                              weights.shape[-1] // 2)
    return found.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(('kernel', 'stride'), [(3, 1), (3, 2), (1, 1)])
@pytest.mark.parametrize('shape', SHAPES)
def test_sums_are_those_of_floats(shape: tuple[int, ...], kernel: int, stride: int) -> None:
    height, width, channels, outputs = shape
    x, weights = drawn(1, 1, height, width, channels), drawn(2, outputs, channels, kernel, kernel)
    found = sums(x, weights, stride)
    np.testing.assert_array_equal(found.values, reference(x, weights, stride))
    np.testing.assert_array_equal(found.bits, pack(found.values))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 130),
       st.integers(1, 12), st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.integers(1, 3),
       st.integers(0, 2 ** 31))
def test_sums_of_any_size(
        count: int, height: int, width: int, channels: int, groups: int, kernel: int,
        stride: int, threads: int, seed: int) -> None:
    x = drawn(seed, count, stride * height, stride * width, channels)
    weights = drawn(seed + 1, 8 * groups, channels, kernel, kernel)
    found = sums(x, weights, stride, threads)
    np.testing.assert_array_equal(found.values, reference(x, weights, stride))
    np.testing.assert_array_equal(found.bits, pack(found.values))


def test_skipped_taps_and_parity() -> None:
    """Check 6: the sums are those over the taps inside alone, and of the parity of their count."""
    x, weights = drawn(3, 1, 7, 5, 192), drawn(4, 32, 192, 3, 3)
    found = sums(x, weights).values[0]
    for y in range(7):
        for column in range(5):
            rows, columns = (np.array([tap for tap in range(3) if 0 <= at + tap - 1 < length])
                             for at, length in ((y, 7), (column, 5)))
            there = signs(x)[0, y - 1 + rows][:, column - 1 + columns]
            taps = signs(weights)[:, :, rows][..., columns]
            expected = torch.einsum('ijc,ocij->o', there, taps).numpy()
            np.testing.assert_array_equal(found[y, column], expected)
            assert ((found[y, column] - 192 * len(rows) * len(columns)) % 2 == 0).all()


@pytest.mark.parametrize(('height', 'width', 'channels'), [(8, 6, 2248), (16, 12, 256), (1, 3, 5)])
def test_deconvolutions_are_those_of_floats(height: int, width: int, channels: int) -> None:
    x, weights = drawn(5, 2, height, width, channels), drawn(6, channels, 16, 4, 4)
    layer = PackedDeconvolution.of(
        pack_weights(weights.transpose(1, 0, 2, 3)), channels, unbent(16))
    found = layer(Workplace(), Signal.of(x))
    expected = functional.conv_transpose2d(
        signs(x).permute(0, 3, 1, 2), signs(weights), None, 2, 1).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(found.values, expected.numpy())
    np.testing.assert_array_equal(found.bits, pack(found.values))


def test_words_are_little_end_first_and_zeros_are_ones() -> None:
    values = np.array([[0.0, -0.0, -1.0, 1.0] + [-1.0] * 61 + [2.0]])
    np.testing.assert_array_equal(pack(values), np.array([[0b1011, 0b10]], np.uint64))


def test_outputs_come_in_eights() -> None:
    with pytest.raises(ValueError, match='12 outputs; expected a multiple of 8'):
        pack_weights(drawn(1, 12, 64, 1, 1))
