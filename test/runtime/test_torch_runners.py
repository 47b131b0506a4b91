# SPDX-License-Identifier: Apache-2.0
"""On a GPU, graphs read and write fixed memory in order, and the right thread waits for them."""

import threading

from mock_networks import write_mock, write_temporal_mock
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed')
onnxruntime = pytest.importorskip('onnxruntime', reason='results are compared with onnxruntime')

from fake_torch_cuda import FakeTorchCuda  # noqa: E402

from hmr_ros.runtime import EngineError, load_engine  # noqa: E402
from hmr_ros.runtime.benchmark import random_feeds  # noqa: E402
from hmr_ros.runtime.manifest import engines_folder, read_manifest  # noqa: E402
from hmr_ros.runtime.torch_engine import TorchEngine  # noqa: E402
from hmr_ros.runtime.torch_network import TorchNetwork  # noqa: E402
from hmr_ros.runtime.torch_runners import GraphRunner  # noqa: E402

pytestmark = pytest.mark.torch
# The largest engine takes seconds to capture eight times; its operators are in the others.
SHIPPED = sorted(name for name, entry in read_manifest(engines_folder()).items()
                 if entry.weights != 'int8' and name != 'keypoint_guided_mgfenet')


def on_fake_gpu(path, cuda, warm_up=GraphRunner.warm_up):
    network = TorchNetwork(path.read_bytes(), path, torch.device('cpu'))
    runner = GraphRunner(network, cuda)
    runner.warm_up = warm_up
    return TorchEngine(network, runner, 'a' * 64, 'fp32', reason='asked for')


def assert_equal_results(engine, reference, batches):
    for run, batch in enumerate(batches):
        feeds = {name: np.roll(array, run) for name, array in random_feeds(
            engine.inputs, batch).items()}
        expected = reference.run(feeds)
        for name, array in engine.run(feeds).items():
            np.testing.assert_allclose(
                array, expected[name], atol=1e-4 * max(np.abs(expected[name]).max(), 1))


@pytest.mark.parametrize('write', [write_mock, write_temporal_mock])
def test_graphs_compute_on_fresh_feeds(tmp_path, write):
    cuda, path = FakeTorchCuda(), write(tmp_path / 'mock.onnx')
    engine = on_fake_gpu(path, cuda)
    assert cuda.log == ['stream'] + ['capture'] * 8 and engine.reason == 'asked for'
    assert_equal_results(
        engine, load_engine(str(path), 'onnxruntime'), (2, 2, 5, 2, 8, 1, 11, 11, 2))
    assert cuda.log.count('capture') == 9, 'larger crowds are captured once, when they come'


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_engines_can_be_captured(name):
    cuda, path = FakeTorchCuda(), engines_folder() / read_manifest(engines_folder())[name].file
    engine = on_fake_gpu(path, cuda, warm_up=(2,))
    assert engine.reason == 'asked for'
    assert_equal_results(engine, load_engine(name, 'onnxruntime'), (2, 2))


@pytest.mark.parametrize('name', [*SHIPPED, 'keypoint_guided_mgfenet'])
def test_no_operator_reads_a_value_back(name):
    """Tensors without memory have no values to read."""
    path = engines_folder() / read_manifest(engines_folder())[name].file
    network = TorchNetwork(path.read_bytes(), path, torch.device('meta'))
    _, results = network.trace({
        spec.name: torch.empty(spec.shape_for(3), dtype=getattr(torch, spec.dtype), device='meta')
        for spec in network.inputs})
    assert {name: tensor.shape for name, tensor in results.items()} == {
        spec.name: spec.shape_for(3) for spec in network.outputs}
    assert all(tensor.device.type == 'meta' for tensor in results.values())


def test_without_graphs_it_is_slower_and_says_so(tmp_path):
    path = write_mock(tmp_path / 'mock.onnx')
    engine = on_fake_gpu(path, FakeTorchCuda(refusals=8))
    assert engine.reason == (
        'asked for; without CUDA graphs: operation failed due to a previous error during capture')
    assert_equal_results(engine, load_engine(str(path), 'onnxruntime'), (2, 3, 2))


def test_results_stay_when_the_next_batch_runs(tmp_path):
    engine = on_fake_gpu(write_mock(tmp_path / 'mock.onnx'), FakeTorchCuda())
    first = engine.run({'image': np.ones((2, 3, 8, 8), np.float32)})
    kept = first['cam'].copy()
    engine.run({'image': np.zeros((2, 3, 8, 8), np.float32)})
    np.testing.assert_array_equal(first['cam'], kept)


def test_only_its_own_thread_may_run_it(tmp_path):
    engine, errors = on_fake_gpu(write_mock(tmp_path / 'mock.onnx'), FakeTorchCuda()), []

    def run():
        try:
            engine.run({'image': np.ones((1, 3, 8, 8), np.float32)})
        except EngineError as error:
            errors.append(str(error))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(errors) == 1 and 'loaded by another thread' in errors[0]


def test_closing_gives_the_memory_back(tmp_path):
    cuda = FakeTorchCuda()
    engine = on_fake_gpu(write_mock(tmp_path / 'mock.onnx'), cuda)
    engine.close()
    engine.close()
    assert cuda.log[-1] == 'empty_cache' and cuda.log.count('empty_cache') == 1
    with pytest.raises(EngineError, match='closed'):
        engine.run({'image': np.ones((1, 3, 8, 8), np.float32)})
