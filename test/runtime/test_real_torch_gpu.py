# SPDX-License-Identifier: Apache-2.0
"""
The torch backend on a real GPU: `pytest -m cuda test/runtime`.

Everything that can be known without one is in test_torch_runners.py and its neighbours.
"""

import threading

import numpy as np
import pytest

from hmr_ros.runtime import EngineError, load_engine
from hmr_ros.runtime.benchmark import random_feeds
from hmr_ros.runtime.manifest import engines_folder, read_manifest

pytestmark = [pytest.mark.torch, pytest.mark.cuda, pytest.mark.slow]
BATCHES = (1, 2, 5, 8, 11)
# Parts of the largest output; fp32 differs by the order of sums alone.
TOLERANCES = {'fp32': 1e-4, 'fp16': 5e-3}


@pytest.fixture(autouse=True)
def torch_with_gpu():
    """Skip, with the reason, where torch or a GPU that it can use is missing."""
    from hmr_ros.runtime.torch_backend import find_torch_with_gpu
    try:
        find_torch_with_gpu()
    except EngineError as error:
        pytest.skip(f'needs torch and a GPU: {error}')


@pytest.mark.parametrize('precision', TOLERANCES)
@pytest.mark.parametrize('name', sorted(read_manifest(engines_folder())))
def test_shipped_engines_give_the_results_of_onnxruntime(name, precision):
    reference = load_engine(name, 'onnxruntime')
    engine = load_engine(name, 'torch', precision)
    assert engine.precision == precision and 'CUDA' not in engine.reason, engine.reason
    for batch in (*BATCHES, BATCHES[0]):
        feeds = random_feeds(engine.inputs, batch)
        expected = reference.run(feeds)
        for output, array in engine.run(feeds).items():
            limit = TOLERANCES[precision] * max(np.abs(expected[output]).max(), 1)
            assert np.abs(array - expected[output]).max() < limit, (output, batch)
    engine.close()


def test_two_engines_in_turns_keep_their_results():
    engines = [load_engine(name, 'torch') for name in ('keypoint_guided', 'body_filter')]
    feeds = [random_feeds(engine.inputs, 3) for engine in engines]
    first = [engine.run(feed) for engine, feed in zip(engines, feeds)]
    again = [engine.run(feed) for engine, feed in zip(engines, feeds)]
    for old, new in zip(first, again):
        for name, array in old.items():
            np.testing.assert_array_equal(new[name], array)
    for engine in engines:
        engine.close()


def test_another_thread_is_refused():
    engine, errors = load_engine('body_filter', 'torch'), []

    def run():
        try:
            engine.run(random_feeds(engine.inputs, 1))
        except EngineError as error:
            errors.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(errors) == 1
    engine.close()


def test_auto_takes_it_where_tensorrt_is_missing(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    engine = load_engine('body_filter')
    assert engine.backend == 'torch' and 'not tensorrt' in engine.reason
    engine.close()
