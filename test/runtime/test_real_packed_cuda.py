# SPDX-License-Identifier: Apache-2.0
"""
Packed layers and encoders on a real GPU: `pytest -m cuda test/runtime`.

Everything that can be known without one is in test_packed_cuda.py and
test_packed_cuda_encoder.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip('numba', reason='layers of the processor, the reference, need numba')
from packed_cases import (  # noqa: E402
    assert_alike, assert_deconvolution_alike, drawn, exact_encoder, exact_numbers, layer_of,
    LAYOUTS, MODULES, signal_for)

from hmr_ros.runtime.cuda import CudaSession, find_cuda  # noqa: E402
from hmr_ros.runtime.engine import EngineError  # noqa: E402
from hmr_ros.runtime.packed_cuda import CudaPlace  # noqa: E402
from hmr_ros.runtime.packed_cuda_encoder import CudaEncoder  # noqa: E402
from hmr_ros.runtime.packed_layers import Workplace  # noqa: E402

pytestmark = [pytest.mark.cuda, pytest.mark.slow]


@pytest.fixture(scope='module')
def place() -> Iterator[CudaPlace]:
    """Skip, with the reason, where cuda-python or a GPU is missing."""
    try:
        cuda = find_cuda()
        device = cuda.device()
    except EngineError as error:
        pytest.skip(f'needs cuda-python and a GPU: {error}')
    session = CudaSession(cuda)
    yield CudaPlace(session, device.compute_capability)
    session.close()


@pytest.mark.parametrize('module', MODULES)
def test_modules_give_the_numbers_of_the_processor(place: CudaPlace, module: str) -> None:
    rng = np.random.default_rng(0)
    assert_alike(place, layer_of(rng, *MODULES[module]), *signal_for(rng, *MODULES[module]))


def test_deconvolutions(place: CudaPlace) -> None:
    rng = np.random.default_rng(1)
    assert_deconvolution_alike(place, rng, drawn(rng, 2, 8, 6, 2248))


@pytest.mark.parametrize('layout', LAYOUTS)
def test_encoders(place: CudaPlace, layout: str) -> None:
    rng = np.random.default_rng(3)
    encoder = exact_encoder(rng, layout)
    on_gpu = CudaEncoder.of(place, encoder)
    for count in (1, 5, 1):
        image = np.abs(exact_numbers(rng, count, 3, 128, 96))
        np.testing.assert_array_equal(on_gpu(place, image), encoder(Workplace(), image))
