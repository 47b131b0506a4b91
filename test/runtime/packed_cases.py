# SPDX-License-Identifier: Apache-2.0
"""Layers of bits with drawn weights, and what compares the GPU's with the processor's."""

from __future__ import annotations

from fake_kernels import fake_code, Stand
import numpy as np
import pytest

from hmr_ros.runtime.packed_bits import pack_weights, PackedKernel
from hmr_ros.runtime.packed_cuda import CudaDeconvolution, CudaLayer, CudaPlace, CudaSignal
from hmr_ros.runtime.packed_encoder import PackedBlock, PackedEncoder, Projection, Stem
from hmr_ros.runtime.packed_layers import (
    bend_rows, line_rows, PackedDeconvolution, PackedLayer, Signal, Workplace)


def place_on_processor() -> CudaPlace:
    """Return a place of stand-ins, whose kernels g++ compiles."""
    return place_of(Stand())


def place_of(stand: Stand) -> CudaPlace:
    """Return a place in the session of stand-ins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('hmr_ros.runtime.packed_cuda.compile_kernel', fake_code)
        return CudaPlace(stand.session, '8.7')


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers of which a tenth are zeros of either sign, and some beyond +-1."""
    values = rng.normal(size=shape).astype(np.float32)
    zeros = rng.random(shape) < 0.1
    values[zeros] = np.where(rng.random(zeros.sum()) < 0.5, 0.0, -0.0)
    return values


def layer_of(
        rng: np.random.Generator, channels: int, outputs: int, side: int = 3, stride: int = 1,
        branches: int = 1) -> PackedLayer:
    """A layer with bends of both signs, of which some are none: their weights are all 0."""
    weights = pack_weights(drawn(rng, outputs, branches * channels, side, side), branches)
    scale, offset = drawn(rng, 2, outputs)
    rows = [bend_rows(np.abs(drawn(rng, outputs)), tuple(8 * drawn(rng, 3, outputs)), scale,
                      offset if branch == 0 else 0.0) for branch in range(branches)]
    return PackedLayer.of(
        PackedKernel.of(weights, channels, (side, side)), np.stack(rows), scale, stride)


def assert_alike(place: CudaPlace, layer: PackedLayer, signal: Signal,
                 around: np.ndarray | None = None) -> None:
    """Compare values and all bits of both, without a tolerance."""
    expected = layer(Workplace(), signal, *(() if around is None else (around,)))
    found = CudaLayer.of(place, layer)(
        place, place.take(signal), None if around is None else place.copy_of(around))
    assert_same(place, found, expected)


def assert_same(place: CudaPlace, found: CudaSignal, expected: Signal) -> None:
    np.testing.assert_array_equal(place.read(found.values), expected.values)
    np.testing.assert_array_equal(place.read(found.bits), expected.bits.view('<u4'))
    assert 0 < (expected.values >= 0).mean() < 1


def assert_deconvolution_alike(
        place: CudaPlace, rng: np.random.Generator, x: np.ndarray) -> None:
    """The same for a deconvolution of values `(N, H, W, C)` with drawn weights."""
    weights = pack_weights(drawn(rng, 64, x.shape[3], 4, 4))
    layer = PackedDeconvolution.of(weights, x.shape[3], line_rows(*drawn(rng, 2, 64)))
    signal = Signal.of(x)
    assert_same(place, CudaDeconvolution.of(place, layer)(place, place.take(signal)),
                layer(Workplace(), signal))


#: channels of a branch, outputs, taps of a side, stride and branches of each of the five modules.
MODULES = {
    'base': (64, 64, 3, 1, 1), 'base of 1x1': (64, 64, 1, 1, 1), 'base of 48': (48, 48, 3, 1, 1),
    'base of 512': (512, 512, 3, 1, 1), 'dscr': (128, 128, 3, 2, 1), 'fur': (64, 256, 1, 1, 1),
    'fdr of 4': (64, 64, 1, 1, 4), 'fdr of 2': (128, 128, 1, 1, 2), 'fdr of 3x3': (64, 32, 3, 1, 2),
    'dsar': (48, 96, 3, 2, 1), 'dsar of 64': (64, 128, 3, 2, 1)}


def signal_for(
        rng: np.random.Generator, channels: int, outputs: int, side: int, stride: int,
        branches: int) -> tuple[Signal, np.ndarray]:
    """What a module maps, and what is added to its 6 x 10 pixels of two pictures."""
    x = drawn(rng, 2, 6 * stride, 10 * stride, branches * channels)
    return Signal.of(x), drawn(rng, 2, 6, 10, outputs)


def exact_numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Quarters from -1 to 1: floats add up products of them without rounding."""
    return rng.integers(-4, 5, shape).astype(np.float32) / 4


def exact_layer(
        rng: np.random.Generator, channels: int, outputs: int, side: int, stride: int,
        branches: int) -> PackedLayer:
    """As `layer_of`, with slopes that are powers of 2 and offsets that are quarters."""
    weights = pack_weights(drawn(rng, outputs, branches * channels, side, side), branches)
    scale = np.full(outputs, 0.5, np.float32)
    rows = [bend_rows(np.full(outputs, 2.0 ** -5),
                      (exact_numbers(rng, outputs), np.full(outputs, 0.5),
                       exact_numbers(rng, outputs)),
                      scale, exact_numbers(rng, outputs) if branch == 0 else 0.0)
            for branch in range(branches)]
    return PackedLayer.of(
        PackedKernel.of(weights, channels, (side, side)), np.stack(rows), scale, stride)


#: blocks of layers as in MODULES.
LAYOUTS = {
    'resnet50': [
        [(64, 64, 1, 1, 1), (64, 64, 3, 1, 1), (64, 256, 1, 1, 1)],
        [(64, 64, 1, 1, 4), (64, 64, 3, 1, 1), (64, 256, 1, 1, 1)],
        [(128, 128, 1, 1, 2), (128, 128, 3, 2, 1), (128, 512, 1, 1, 1)]],
    'resnet18': [
        [(48, 48, 3, 1, 1), (48, 48, 3, 1, 1)], [(48, 96, 3, 2, 1), (96, 96, 3, 1, 1)],
        [(96, 96, 3, 1, 1), (96, 96, 3, 1, 1)]]}


def exact_encoder(rng: np.random.Generator, layout: str) -> PackedEncoder:
    """An encoder of three blocks whose maps do not depend on the order of sums."""
    blocks = []
    for modules in LAYOUTS[layout]:
        entered, outputs = modules[0][0] * modules[0][4], modules[-1][1]
        stride = max(module[3] for module in modules)
        projection = None
        if entered != outputs or stride > 1:
            projection = Projection(exact_numbers(rng, entered, outputs), stride)
        blocks.append(PackedBlock(
            tuple(exact_layer(rng, *module) for module in modules), projection))
    width = LAYOUTS[layout][0][0][0]
    return PackedEncoder(
        Stem(exact_numbers(rng, 147, width) / 8, exact_numbers(rng, width)), tuple(blocks))
