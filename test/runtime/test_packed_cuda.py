# SPDX-License-Identifier: Apache-2.0
"""Layers of bits on the GPU are those of the processor; kernels run here as g++ compiles them."""

from __future__ import annotations

import ctypes

from hypothesis import given, settings, strategies as st
from kernel_on_cpu import COMPILER, compiled
import numpy as np
import pytest

pytest.importorskip('numba', reason='layers of the processor, the reference, need numba')
if not COMPILER:
    pytest.skip('running kernels without a GPU needs g++', allow_module_level=True)

from packed_cases import (  # noqa: E402
    assert_alike, assert_deconvolution_alike, drawn, layer_of, MODULES, place_on_processor,
    signal_for)

from hmr_ros.runtime.engine import EngineError  # noqa: E402
from hmr_ros.runtime.packed_bits import pack, pack_weights, PackedKernel  # noqa: E402
from hmr_ros.runtime.packed_cuda import CudaLayer, CudaPlace, DeviceArray  # noqa: E402
from hmr_ros.runtime.packed_layers import line_rows, PackedLayer, Signal  # noqa: E402


@pytest.fixture(scope='module')
def place() -> CudaPlace:
    return place_on_processor()


@pytest.mark.parametrize('module', MODULES)
def test_modules_give_the_numbers_of_the_processor(place: CudaPlace, module: str) -> None:
    rng = np.random.default_rng(0)
    assert_alike(place, layer_of(rng, *MODULES[module]), *signal_for(rng, *MODULES[module]))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2), st.integers(1, 18), st.integers(1, 18), st.integers(1, 40),
       st.integers(1, 3), st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.booleans(),
       st.integers(0, 2 ** 31))
def test_layers_of_any_size(
        place: CudaPlace, count: int, height: int, width: int, octets: int, ratio: int, side: int,
        stride: int, shortcut: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = layer_of(rng, 8 * octets, 8 * octets * ratio, side, stride)
    x = drawn(rng, count, max(height, stride), max(width, stride), 8 * octets)
    shape = count, len(x[0]) // stride, len(x[0, 0]) // stride, 8 * octets * ratio
    assert_alike(place, layer, Signal.of(x), drawn(rng, *shape) if shortcut else None)


@pytest.mark.parametrize('channels', [5, 200, 2248])
def test_sums_that_nothing_follows(place: CudaPlace, channels: int) -> None:
    """A layer that keeps nothing does not read values, whatever they are."""
    rng = np.random.default_rng(channels)
    x, weights = drawn(rng, 1, 8, 6, channels), drawn(rng, 16, channels, 3, 3)
    layer = PackedLayer.of(
        PackedKernel.of(pack_weights(weights), channels, (3, 3)),
        line_rows(np.ones(16), np.zeros(16))[None], np.zeros(16, np.float32))
    signal = Signal(pack(x), np.full_like(x, np.nan))
    assert_alike(place, layer, signal)


@pytest.mark.parametrize(('height', 'width', 'channels'), [(8, 6, 2248), (9, 17, 256), (1, 3, 5)])
def test_deconvolutions(place: CudaPlace, height: int, width: int, channels: int) -> None:
    rng = np.random.default_rng(height)
    assert_deconvolution_alike(place, rng, drawn(rng, 2, height, width, channels))


def test_other_channels_and_shortcuts_are_refused(place: CudaPlace) -> None:
    rng = np.random.default_rng(0)
    layer = CudaLayer.of(place, layer_of(rng, 64, 64))
    with pytest.raises(ValueError, match='128 channels, but a packed layer takes 1 times 64'):
        layer(place, place.take(Signal.of(drawn(rng, 1, 4, 4, 128))))
    with pytest.raises(ValueError, match=r'\(1, 4, 4, 32\) is added to .*\(1, 4, 4, 64\)'):
        layer(place, place.take(Signal.of(drawn(rng, 1, 4, 4, 64))),
              DeviceArray(0, (1, 4, 4, 32), 'float32'))


def test_larger_kernels_are_refused(place: CudaPlace) -> None:
    with pytest.raises(EngineError, match=r'\(5, 5\) taps.*at most 3x3'):
        CudaLayer.of(place, layer_of(np.random.default_rng(0), 64, 8, 5))


# What runs kernels here ------------------------------------------------------------------------

UNEVEN = '''
extern "C" __global__ void uneven(int *out)
{
    __shared__ int seen[64];
    seen[63 - threadIdx.x] = threadIdx.x;
    %s
    const unsigned signs = __ballot_sync(0xffffffff, threadIdx.x %% 32 %% 3 == 0);
    out[threadIdx.x] = seen[threadIdx.x] + (signs == 0x49249249u ? 0 : 1000);
}
'''


def test_a_barrier_too_few_is_seen() -> None:
    """Otherwise kernels that lack one would pass the tests above."""
    expected = 63 - np.arange(64)
    for barrier, alike in (('__syncthreads();', True), ('// __syncthreads', False)):
        out = np.zeros(64, np.int32)
        compiled(UNEVEN % barrier, 'uneven')(
            (1, 1, 1), (64, 1, 1), [out.ctypes.data], [ctypes.c_void_p])
        assert (out == expected).all() == alike, out


def test_threads_that_wait_in_vain_are_told() -> None:
    kernel = compiled(UNEVEN % 'if (threadIdx.x) __syncthreads();', 'uneven')
    with pytest.raises(AssertionError, match='uneven wait for others'):
        kernel((1, 1, 1), (64, 1, 1), [np.zeros(64, np.int32).ctypes.data], [ctypes.c_void_p])
