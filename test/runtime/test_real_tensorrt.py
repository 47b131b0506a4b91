# SPDX-License-Identifier: Apache-2.0
"""
The backend on real TensorRT and a real GPU: `pytest -m tensorrt test/runtime`.

Everything that can be known without them is in test_tensorrt_engine.py and its neighbours.
"""

import numpy as np
import pytest

from hmr_ros.perception.crop_plan import plan_crops
from hmr_ros.perception.crops import CropTransform, cut_crops
from hmr_ros.runtime import BuildOptions, EngineError, load_engine
from hmr_ros.runtime.benchmark import random_feeds
from hmr_ros.runtime.manifest import engines_folder, read_manifest

pytestmark = [pytest.mark.tensorrt, pytest.mark.slow]
BATCHES = (1, 2, 5, 8)
# Parts of the largest output; fp32 differs by the order of sums alone.
TOLERANCES = {'fp32': 1e-4, 'fp16': 5e-3}


@pytest.fixture(autouse=True)
def tensorrt_and_gpu(tmp_path, monkeypatch):
    """Skip, with the reason, where TensorRT, cuda-python or a GPU is missing."""
    from hmr_ros.runtime.tensorrt_backend import find_stack
    try:
        find_stack()
    except EngineError as error:
        pytest.skip(f'needs TensorRT and a GPU: {error}')
    monkeypatch.setenv('HMR_ENGINE_CACHE_DIR', str(tmp_path))


@pytest.mark.parametrize('precision', TOLERANCES)
@pytest.mark.parametrize('name', sorted(
    name for name, entry in read_manifest(engines_folder()).items() if entry.weights != 'int8'))
def test_shipped_engines_give_the_results_of_onnxruntime(name, precision):
    reference = load_engine(name, 'onnxruntime')
    engine = load_engine(
        name, 'tensorrt', precision, build=BuildOptions(max(BATCHES), allow_engine_build=True))
    assert 'without CUDA graphs' not in engine.reason
    for batch in (*BATCHES, BATCHES[0]):
        feeds = random_feeds(engine.inputs, batch)
        expected = reference.run(feeds)
        for output, array in engine.run(feeds).items():
            limit = TOLERANCES[precision] * max(np.abs(expected[output]).max(), 1)
            assert np.abs(array - expected[output]).max() < limit, (output, batch)
    engine.close()


@pytest.mark.parametrize('color_order', ['bgr', 'gray'])
def test_crops_of_the_gpu_are_those_of_the_processor(color_order):
    engine = load_engine('keypoint_guided', 'tensorrt', 'fp32', build=BuildOptions(4, True))
    assert engine.run_crops, engine.reason
    size, rng = engine.entry.image_size, np.random.default_rng(0)
    shape = (700, 900) if color_order == 'gray' else (700, 900, 3)
    image = 255 * rng.integers(0, 2, shape).astype(np.uint8)
    for sides in ([90.0], [60.0, 300.0, 1000.0, 20.0], [90.0]):
        transforms = [CropTransform(*rng.uniform(-20, 900, 2), side, size) for side in sides]
        facts = (color_order, transforms, size, engine.entry.mean, engine.entry.std)
        expected = engine.run({'image': cut_crops(image, *facts)})
        for name, array in engine.run_crops(image, plan_crops(*facts), {}).items():
            # The same batch gives the same numbers, whichever way it came.
            assert np.abs(array - expected[name]).max() < 1e-4 * np.abs(expected[name]).max(), name
    engine.close()


def test_a_second_load_takes_the_engine_that_was_built():
    options = BuildOptions(2, allow_engine_build=True)
    load_engine('body_filter', 'tensorrt', build=options).close()
    again = load_engine('body_filter', build=BuildOptions(2))
    assert again.backend == 'tensorrt' and again.precision == 'fp16'
    again.close()


@pytest.mark.parametrize('compatibility', ['version', 'hardware'])
def test_compatible_engines_are_built_and_run(compatibility):
    options = BuildOptions(2, True, compatibility)
    engine = load_engine('body_filter', 'tensorrt', 'fp32', build=options)
    feeds = {spec.name: np.zeros(spec.shape_for(2), spec.dtype) for spec in engine.inputs}
    assert all(np.isfinite(array).all() for array in engine.run(feeds).values())
    engine.close()
