# SPDX-License-Identifier: Apache-2.0
"""The torch backend gives the results of onnxruntime, and refuses what it must."""

import re
import subprocess
import sys
from types import SimpleNamespace

from mock_networks import write_mock, write_quantized, write_temporal_mock
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed')
pytest.importorskip('onnxruntime', reason='results are compared with onnxruntime')

from hmr_ros.runtime import Engine, EngineError, load_engine, torch_backend  # noqa: E402
from hmr_ros.runtime.benchmark import random_feeds  # noqa: E402
from hmr_ros.runtime.half_precision import typed_network  # noqa: E402
from hmr_ros.runtime.manifest import engines_folder, read_manifest  # noqa: E402
from hmr_ros.runtime.torch_network import TorchNetwork  # noqa: E402

pytestmark = pytest.mark.torch
SHIPPED = sorted(name for name, entry in read_manifest(engines_folder()).items()
                 if entry.weights != 'int8')


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Give the same results on machines with a GPU; test_real_torch_gpu.py uses that."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def images(count):
    return {'image': np.random.default_rng(count).normal(
        size=(count, 3, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_engines_give_the_results_of_onnxruntime(name):
    reference, engine = load_engine(name, 'onnxruntime'), load_engine(name, 'torch')
    assert isinstance(engine, Engine) and engine.entry == reference.entry
    assert (engine.name, engine.sha256, engine.inputs, engine.outputs) == (
        reference.name, reference.sha256, reference.inputs, reference.outputs)
    for batch in (1, 3, 8, 1):
        feeds = random_feeds(engine.inputs, batch)
        expected, found = reference.run(feeds), engine.run(feeds)
        assert list(found) == list(expected)
        for output, array in found.items():
            assert array.shape == expected[output].shape and array.flags.c_contiguous
            limit = 1e-4 * max(np.abs(expected[output]).max(), 1)
            assert np.abs(array - expected[output]).max() < limit, (output, batch)


def test_it_says_where_it_runs(engines):
    engine = load_engine('mock', 'torch')
    assert (engine.backend, engine.precision) == ('torch', 'fp32')
    assert engine.reason == ('backend torch was asked for; on the CPU, as torch '
                             f'{torch.__version__} sees no CUDA GPU')


def test_the_graph_of_half_precision_can_be_run(tmp_path):
    """GPUs get it; here it is computed on the CPU."""
    path = engines_folder() / read_manifest(engines_folder())['body_filter'].file
    network = TorchNetwork(
        typed_network(path.read_bytes(), 'fp16', path), path, torch.device('cpu'))
    feeds = random_feeds(network.inputs, 2)
    expected = load_engine('body_filter', 'onnxruntime').run(feeds)
    program, results = network.trace(
        {name: torch.from_numpy(array) for name, array in feeds.items()})
    assert any(torch.float16 in (getattr(argument, 'dtype', None) for argument in step.arguments)
               for step in program.steps)
    for name, tensor in results.items():
        limit = 5e-3 * max(np.abs(expected[name]).max(), 1)
        assert np.abs(tensor.numpy() - expected[name]).max() < limit, name


def test_feeds_of_any_memory_and_results_of_its_own(engines):
    engine, feeds = load_engine('mock', 'torch'), images(4)
    expected = engine.run(feeds)['cam']
    feeds['image'].flags.writeable = False
    turned = feeds['image'][::-1]
    np.testing.assert_allclose(engine.run(feeds)['cam'], expected)
    np.testing.assert_allclose(engine.run({'image': turned})['cam'], expected[::-1], rtol=1e-6)
    engine.run(images(4))['cam'][:] = 0
    np.testing.assert_allclose(engine.run(feeds)['cam'], expected)


def test_a_state_may_have_its_batch_on_the_second_axis(tmp_path):
    path = str(write_temporal_mock(tmp_path / 'temporal.onnx'))
    engine, reference = load_engine(path, 'torch'), load_engine(path, 'onnxruntime')
    assert engine.inputs == reference.inputs and engine.outputs == reference.outputs
    feeds = {'feature': np.ones((3, 6), np.float32), 'h_in': np.ones((2, 3, 5), np.float32)}
    np.testing.assert_allclose(
        engine.run(feeds)['h_out'], reference.run(feeds)['h_out'], atol=1e-6)


def test_threads_are_those_of_the_engine_that_runs(engines):
    one, two = load_engine('mock', 'torch', threads=1), load_engine('mock', 'torch', threads=2)
    one.run(images(1))
    assert torch.get_num_threads() == 1
    two.run(images(1))
    assert torch.get_num_threads() == 2
    load_engine('mock', 'torch', threads=0).run(images(1))
    assert torch.get_num_threads() == 2, '0 leaves the choice to torch'


def test_closed_engine(engines):
    engine = load_engine('mock', 'torch')
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        engine.run(images(1))


@pytest.mark.parametrize('precision, hint', [
    ('fp16', 'sees no CUDA GPU; use precision fp32'),
    ('int8', 'hmr quantize.*or use precision fp32')])
def test_precisions_it_has_not(engines, precision, hint):
    with pytest.raises(EngineError, match=hint):
        load_engine('mock', 'torch', precision)


def test_damaged_changed_and_misfit_files(engines, tmp_path):
    (engines / 'other.onnx').write_bytes(b'not a network')
    with pytest.raises(EngineError, match='other.onnx is not an ONNX model'):
        load_engine(str(engines / 'other.onnx'), 'torch')
    with pytest.raises(EngineError, match="'image'.*only one axis"):
        load_engine(str(write_mock(engines / 'free.onnx', free_axis=True)), 'torch')
    manifest = engines / 'manifest.yaml'
    listed = manifest.read_text()
    manifest.write_text(listed.replace('- 96', '- 29'))
    with pytest.raises(EngineError, match=r'uvd float32\[-1, 96, 3\].*manifest lists'):
        load_engine('mock', 'torch')
    manifest.write_text(listed)
    (engines / 'mock.onnx').write_bytes(b'changed')
    with pytest.raises(EngineError, match='SHA-256.*manifest says'):
        load_engine('mock', 'torch')


def test_feeds_it_cannot_take_are_named_and_it_lives_on():
    engine = load_engine('rsc_net', 'torch')
    feeds = random_feeds(engine.inputs, 2)
    with pytest.raises(EngineError, match=r"'row' of engine 'rsc_net' is int64"):
        engine.run({**feeds, 'row': feeds['row'].astype(np.int64)})
    # A batch size of the warm-up, and one that is new.
    for batch, hint in ((8, r"engine 'rsc_net' failed on inputs .*'row': \(8,\)"),
                        (2, r"operator Gather .* of .*rsc_net.onnx .*out of bounds")):
        wrong = {**random_feeds(engine.inputs, batch), 'row': np.full(batch, 99, np.int32)}
        with pytest.raises(EngineError, match=hint):
            engine.run(wrong)
    assert engine.run(feeds)['cam'].shape == (2, 3)


def test_without_torch_or_onnx_it_says_what_to_install(engines, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(EngineError, match='onnx is not installed.*pip install'):
        load_engine('mock', 'torch')
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(EngineError, match='torch cannot be imported.*pip install torch'):
        load_engine('mock', 'torch')


@pytest.mark.parametrize('gpus, cuda, backend, reason', [
    (1, True, 'torch', 'not tensorrt: tensorrt cannot.*; on Fake GPU'),
    (1, False, 'onnxruntime', 'not tensorrt: .*; not torch: torch .* cannot use the GPU'),
    (0, True, 'onnxruntime', 'not tensorrt: .*; not torch: .* shows no NVIDIA GPU')])
def test_auto_takes_torch_only_with_a_gpu(engines, monkeypatch, gpus, cuda, backend, reason):
    def open_engine(torch, path, entry, precision, threads, reason):
        return SimpleNamespace(backend='torch', reason=f'{reason}; on Fake GPU')
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    monkeypatch.setattr(torch_backend, 'count_gpus', lambda: gpus)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setattr(torch_backend, 'open_engine', open_engine)
    engine = load_engine('mock')
    assert engine.backend == backend
    assert re.match(reason, engine.reason)


def test_a_gpu_that_fails_is_named_and_auto_goes_on(engines, monkeypatch):
    """The torch of this test may lack CUDA altogether."""
    def refuse(device):
        raise RuntimeError('CUDA error: out of memory')
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    monkeypatch.setattr(torch_backend, 'count_gpus', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'Fake GPU')
    monkeypatch.setattr(torch.cuda, 'Stream', refuse)
    with pytest.raises(EngineError, match='cannot use Fake GPU: CUDA error: out of memory'):
        load_engine('mock', 'torch')
    engine = load_engine('mock')
    assert engine.backend == 'onnxruntime' and 'not torch: torch' in engine.reason


def test_auto_takes_tensorrt_before_torch(engines, gpu, monkeypatch):
    from hmr_ros.runtime import BuildOptions
    monkeypatch.setattr(torch_backend, 'find_torch_with_gpu', lambda: pytest.fail('asked'))
    engine = load_engine('mock', build=BuildOptions(2, allow_engine_build=True))
    assert engine.backend == 'tensorrt'


def test_auto_looks_for_a_gpu_before_it_imports_torch(engines):
    """In a fresh process, as this one has torch."""
    program = ('import sys; from hmr_ros.runtime import load_engine, torch_backend; '
               'torch_backend.count_gpus = lambda: 0; '
               'print(load_engine("mock").backend, "torch" in sys.modules)')
    output = subprocess.check_output([sys.executable, '-c', program], text=True)
    assert output.split() == ['onnxruntime', 'False']


def test_without_torch_the_driver_is_not_asked(engines, monkeypatch):
    monkeypatch.setattr(torch_backend, 'find_spec', lambda name: None)
    monkeypatch.setattr(torch_backend, 'count_gpus', lambda: pytest.fail('asked'))
    with pytest.raises(EngineError, match='torch is not installed'):
        torch_backend.find_torch_with_gpu()


@pytest.mark.parametrize('results, count', [((0, 0), 2), ((100, 0), 0), ((0, 3), 0)])
def test_gpus_are_counted_by_the_driver(monkeypatch, results, count):
    def count_devices(pointer):
        pointer._obj.value = 2
        return results[1]
    driver = SimpleNamespace(cuInit=lambda flags: results[0], cuDeviceGetCount=count_devices)
    monkeypatch.setattr(torch_backend.ctypes, 'CDLL', lambda name: driver)
    assert torch_backend.count_gpus() == count


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    def refuse(name):
        raise OSError(name)
    monkeypatch.setattr(torch_backend.ctypes, 'CDLL', refuse)
    assert torch_backend.count_gpus() == 0


def test_quantized_files_are_for_others(tmp_path):
    path = write_quantized(write_mock(tmp_path / 'mock.onnx'))
    for precision in ('auto', 'int8'):
        with pytest.raises(EngineError, match='no int8.*quantized.onnx is quantized; use the file'):
            load_engine(str(path), 'torch', precision)
