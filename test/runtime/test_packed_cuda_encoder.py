# SPDX-License-Identifier: Apache-2.0
"""Encoders on the GPU give the maps of the processor; kernels run here as g++ compiles them."""

from __future__ import annotations

from fake_kernels import Stand
from kernel_on_cpu import COMPILER
import numpy as np
import pytest

pytest.importorskip('numba', reason='encoders of the processor, the reference, need numba')
if not COMPILER:
    pytest.skip('running kernels without a GPU needs g++', allow_module_level=True)
from packed_cases import (  # noqa: E402
    assert_same, drawn, exact_encoder, exact_numbers, LAYOUTS, place_of, place_on_processor)

from hmr_ros.runtime.engine import EngineError  # noqa: E402
from hmr_ros.runtime.packed_cuda import CudaPlace  # noqa: E402
from hmr_ros.runtime.packed_cuda_encoder import (  # noqa: E402
    CudaEncoder, CudaProjection, CudaStem)
from hmr_ros.runtime.packed_encoder import Projection, Stem  # noqa: E402
from hmr_ros.runtime.packed_layers import Workplace  # noqa: E402


@pytest.fixture(scope='module')
def place() -> CudaPlace:
    return place_on_processor()


@pytest.mark.parametrize(('height', 'width', 'outputs'), [(32, 24, 64), (4, 8, 48), (40, 36, 8)])
def test_stems(place: CudaPlace, height: int, width: int, outputs: int) -> None:
    """Numbers that floats add up exactly, in whatever order."""
    rng = np.random.default_rng(height)
    stem = Stem(exact_numbers(rng, 147, outputs), exact_numbers(rng, outputs))
    image = np.abs(exact_numbers(rng, 2, 3, height, width))
    found = CudaStem.of(place, stem)(place, place.copy_of(image))
    assert_same(place, found, stem(Workplace(), image))


@pytest.mark.parametrize(('size', 'channels', 'outputs', 'stride'), [
    ((8, 6), 64, 256, 1), ((8, 6), 256, 136, 2), ((9, 7), 40, 8, 2), ((1, 1), 5, 3, 1)])
def test_projections(place: CudaPlace, size: tuple[int, int], channels: int, outputs: int,
                     stride: int) -> None:
    rng = np.random.default_rng(channels)
    values, weight = drawn(rng, 3, *size, channels), drawn(rng, channels, outputs)
    found = place.read(
        CudaProjection.of(place, Projection(weight, stride))(place, place.copy_of(values)))
    height, width = (side // stride for side in size)
    seen = values[:, ::stride, ::stride][:, :height, :width].clip(-1, 1)
    np.testing.assert_allclose(
        found, seen.astype(np.float64) @ weight, atol=1e-5 * np.abs(found).max())


@pytest.mark.parametrize('layout', LAYOUTS)
def test_encoders(place: CudaPlace, layout: str) -> None:
    """All kinds of blocks one after the other, on numbers that floats add up exactly."""
    rng = np.random.default_rng(3)
    encoder = exact_encoder(rng, layout)
    on_gpu = CudaEncoder.of(place, encoder)
    for count in (1, 3, 1):
        image = np.abs(exact_numbers(rng, count, 3, 64, 48))
        expected = encoder(Workplace(), image)
        assert (expected != 0).any() and expected.std() > 0.1
        np.testing.assert_array_equal(on_gpu(place, image), expected)


def test_memory_grows_with_the_people_and_is_freed_with_the_session() -> None:
    stand, rng = Stand(), np.random.default_rng(0)
    place = place_of(stand)
    encoder, blocks, sizes = CudaEncoder.of(place, exact_encoder(rng, 'resnet18')), [], []
    for count in (1, 2, 2, 2, 2, 2, 2, 1):
        encoder(place, np.abs(exact_numbers(rng, count, 3, 32, 32)))
        blocks.append(len(stand.runtime.memory))
        sizes.append(sum(len(block.buffer) for block in stand.runtime.memory.values()))
    assert len(set(blocks)) == 1, 'arrays are used again'
    assert sizes[0] < sizes[1] and sizes[-3:] == sizes[-3:-2] * 3
    stand.session.close()
    assert not stand.runtime.memory and not stand.fake_driver.modules


def test_kernels_that_cannot_be_started_are_told() -> None:
    stand = Stand()
    place = place_of(stand)
    stand.fake_driver.refuse_launches = True
    projection = CudaProjection.of(place, Projection(np.ones((8, 8), np.float32), 1))
    with pytest.raises(EngineError, match='cuLaunchKernel'):
        projection(place, place.copy_of(np.ones((1, 2, 2, 8), np.float32)))
