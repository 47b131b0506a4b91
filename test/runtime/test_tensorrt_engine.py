# SPDX-License-Identifier: Apache-2.0
"""The TensorRT backend, on stand-ins for TensorRT and CUDA that are strict about calls."""

from dataclasses import replace
import sys
import threading

from mock_networks import write_mock, write_temporal_mock
import numpy as np
import pytest

from hmr_ros.runtime import BuildOptions, BuildWatch, Engine, EngineError, load_engine
from hmr_ros.runtime.manifest import add_entry, read_manifest

BUILD = BuildOptions(max_batch=12, allow_engine_build=True)


def images(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


def build(name='mock', precision='fp32', options=BUILD):
    return load_engine(name, 'tensorrt', precision, build=options)


@pytest.mark.parametrize('version', ['10.3.0', '10.16.1.11', '11.4.0.106'])
def test_results_are_those_of_onnxruntime(engines, install, version):
    stack = install(version)
    engine, reference = build(), load_engine('mock', 'onnxruntime')
    assert isinstance(engine, Engine) and engine.backend == 'tensorrt'
    assert (engine.inputs, engine.sha256) == (reference.inputs, reference.sha256)
    assert set(engine.outputs) == set(reference.outputs)
    for count in (1, 3, 8, 12, 3):
        feeds = {'image': images(count, seed=count)}
        expected = reference.run(feeds)
        for name, array in engine.run(feeds).items():
            np.testing.assert_allclose(array, expected[name], atol=1e-6)
    assert stack.tensorrt.builds == 1 and stack.cuda.launches == 5


def test_an_engine_is_built_for_as_many_as_ever_come(engines, install):
    install()
    add_entry(engines, replace(read_manifest(engines)['mock'], max_batch=2))
    engine = build()
    assert engine.max_batch == 2
    assert load_engine('mock', 'tensorrt', 'fp32', build=BuildOptions(max_batch=30)).max_batch == 2


@pytest.mark.parametrize('precision, degraded', [('fp16', True), ('fp32', False)])
def test_depth_that_is_all_of_fp16_is_reported(engines, install, precision, degraded, monkeypatch):
    install()
    from hmr_ros.runtime import half_precision
    # The mock has another output that stands for depth.
    monkeypatch.setattr(half_precision, '_DEPTH', 'cam')
    assert ('degraded: all of the file is computed in fp16' in build(
        precision=precision).reason) == degraded


def test_a_graph_gives_the_results_of_new_inputs_and_old_results_stay(engines, gpu):
    engine = build()
    first = engine.run({'image': images(2, 1)})
    kept = first['cam'].copy()
    second = engine.run({'image': images(2, 2)})
    assert not np.allclose(first['cam'], second['cam'])
    np.testing.assert_array_equal(first['cam'], kept)
    np.testing.assert_array_equal(engine.run({'image': images(2, 1)})['cam'], kept)


def test_graphs_of_small_batches_are_there_before_the_first_image(engines, gpu):
    engine = build()
    assert len(gpu.cuda.graphs) == 8
    blocks = len(gpu.cuda.memory)
    engine.run({'image': images(8)})
    assert len(gpu.cuda.graphs) == 8
    engine.run({'image': images(9)})
    assert len(gpu.cuda.graphs) == 9 and len(gpu.cuda.memory) == blocks


def test_an_engine_that_cannot_be_captured_runs_all_the_same_and_says_so(engines, gpu):
    gpu.tensorrt.refuse_captures = True
    engine = build()
    expected = load_engine('mock', 'onnxruntime').run({'image': images(3)})
    np.testing.assert_allclose(engine.run({'image': images(3)})['uvd'], expected['uvd'], atol=1e-6)
    assert gpu.cuda.launches == 0 and engine.reason.count('without CUDA graphs') == 1


def test_close_frees_everything_and_twice_is_once(engines, gpu):
    engine = build()
    engine.run({'image': images(2)})
    assert gpu.cuda.memory and gpu.cuda.graphs and gpu.cuda.streams and gpu.tensorrt.still_alive()
    engine.close()
    engine.close()
    assert not gpu.cuda.memory and not gpu.cuda.graphs and not gpu.cuda.streams
    assert not gpu.tensorrt.still_alive()
    with pytest.raises(EngineError, match='closed'):
        engine.run({'image': images(1)})


@pytest.mark.parametrize('failing', ['device', 'pinned', 'cudaStreamSynchronize'])
def test_an_engine_that_fails_to_load_leaves_nothing(engines, gpu, failing):
    gpu.cuda.fail_on = failing
    with pytest.raises(EngineError, match='failed'):
        build()
    assert not gpu.cuda.memory and not gpu.cuda.streams and not gpu.tensorrt.still_alive()


def test_memory_that_is_not_there_is_named_with_its_remedy(engines, gpu):
    gpu.cuda.fail_on = 'pinned'
    with pytest.raises(EngineError, match=r'bytes of memory.*out of memory.*smaller --max-batch'):
        build()
    gpu.cuda.fail_on, gpu.tensorrt.refuse_contexts = None, True
    with pytest.raises(EngineError, match='no context'):
        build()


@pytest.mark.parametrize('feeds, hint', [
    ({}, 'takes the inputs image'),
    ({'image': images(13)}, '13 people.*at most 12.*build mock --precision fp32 --max-batch 13'),
    ({'image': images(1).astype(np.float64)}, 'float64'),
    ({'image': images(1) * np.nan}, 'NaN')])
def test_wrong_feeds_are_named_and_the_engine_lives_on(engines, gpu, feeds, hint):
    engine = build()
    with pytest.raises(EngineError, match=hint):
        engine.run(feeds)
    assert engine.run({'image': images(1)})['cam'].shape == (1, 3)


def test_one_thread_owns_the_engine(engines, gpu):
    engine, seen = build(), []

    def run():
        try:
            engine.run({'image': images(1)})
        except EngineError as error:
            seen.append(str(error))
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(seen) == 1 and 'another thread' in seen[0]


def test_states_with_their_batch_on_the_second_axis(tmp_path, gpu):
    path = str(write_temporal_mock(tmp_path / 'temporal.onnx'))
    engine, reference = build(path), load_engine(path, 'onnxruntime')
    feeds = {'feature': np.ones((3, 6), np.float32),
             'h_in': np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)}
    for name, array in reference.run(feeds).items():
        np.testing.assert_allclose(engine.run(feeds)[name], array, atol=1e-6)


def test_sizes_that_the_exporter_left_open_are_measured(tmp_path, gpu):
    gpu.tensorrt.open_sizes = {'uvd': 96, 'cam': 3}
    path = write_mock(tmp_path / 'open.onnx', unknown_outputs=True)
    # Two open sizes in one output are more than the stand-in guesses.
    gpu.tensorrt.members['ICudaEngine']._sizes = lambda self, name, batch: {
        'uvd': (batch, 96, 3), 'cam': (batch, 3)}[name]
    engine = build(str(path))
    assert {spec.name: spec.shape for spec in engine.outputs} == {
        'uvd': (-1, 96, 3), 'cam': (-1, 3)}


def test_what_the_builder_is_told(engines, gpu):
    build()
    config, trt = gpu.tensorrt.last_config, gpu.tensorrt
    assert config._pools == {trt.MemoryPoolType.WORKSPACE: 1024 << 20}
    assert config._flags == set(), 'TF32 would make fp32 something else'
    assert config._profiles[0]._shapes == {
        'image': ((1, 3, 8, 8), (4, 3, 8, 8), (12, 3, 8, 8))}
    build(options=BuildOptions(2, True, 'version', workspace_mb=64))
    assert trt.last_config._flags == {trt.BuilderFlag.VERSION_COMPATIBLE}
    assert trt.last_config._pools == {trt.MemoryPoolType.WORKSPACE: 64 << 20}
    assert trt.last_config._profiles[0]._shapes['image'][1:] == ((2, 3, 8, 8), (2, 3, 8, 8))
    build(options=BuildOptions(2, True, 'hardware'))
    level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert trt.last_config.hardware_compatibility_level == level


def test_later_builds_use_the_measurements_of_earlier_ones(engines, gpu):
    build()
    build(precision='fp16')
    assert gpu.tensorrt.last_config._timing._content == b'+1'
    kept, = gpu.built.glob('timing-*')
    kept.write_bytes(kept.read_bytes()[:-1] + b'?')
    build('mock_2', options=BuildOptions(3, True))
    assert gpu.tensorrt.last_config._timing._content == b'', 'damaged ones are not used'


def test_a_build_is_told_of_and_can_be_stopped(engines, gpu):
    lines, steps = [], []
    watch = BuildWatch(lines.append, lambda *step: steps.append(step))
    build(options=BuildOptions(2, True, watch=watch))
    assert 'nothing was built' in lines[0] and 'Building it now' in lines[0]
    assert steps == [('Building', 0, 2), ('Building', 1, 2), ('Building', 2, 2),
                     ('Building', 2, 2)]

    def stop(*_):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        build(options=BuildOptions(3, True, watch=BuildWatch(progress=stop)))
    assert len(list(gpu.built.glob('*.engine'))) == 1 and not list(gpu.built.glob('*.part'))


def test_a_build_that_fails_says_what_tensorrt_said(engines, gpu, tmp_path):
    gpu.tensorrt.refuse_builds = True
    with pytest.raises(EngineError, match='fake builder has no memory.*--precision fp32'):
        build()
    assert not list(gpu.built.glob('*.engine')) and not list(gpu.built.glob('*.json'))
    gpu.tensorrt.refuse_builders = True
    with pytest.raises(EngineError, match='TensorRT 10.3.0 cannot prepare.*nullptr.*driver'):
        build()
    (tmp_path / 'other.onnx').write_bytes(b'not a network')
    with pytest.raises(EngineError, match='not an ONNX model'):
        build(str(tmp_path / 'other.onnx'))


def test_auto_takes_tensorrt_only_with_an_engine_and_says_why(engines, install, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    without = load_engine('mock')
    assert without.backend == 'onnxruntime' and 'tensorrt cannot be imported' in without.reason
    assert load_engine('mock', 'onnxruntime').reason == 'backend onnxruntime was asked for'
    stack = install(devices=None)
    assert 'looking for a GPU' in load_engine('mock').reason
    install(devices=0)
    assert 'sees no GPU' in load_engine('mock').reason
    stack = install()
    unbuilt = load_engine('mock')
    assert unbuilt.backend == 'onnxruntime' and stack.tensorrt.builds == 0
    assert '`hmr engines build mock --precision fp16 --max-batch 32`' in unbuilt.reason
    built = load_engine('mock', build=BuildOptions(allow_engine_build=True))
    assert built.backend == 'tensorrt' and 'Fake Orin' in built.reason
    assert load_engine('mock').backend == 'tensorrt' and stack.tensorrt.builds == 1
    install('10.2.0')
    assert 'expected 10.3 or newer' in load_engine('mock').reason


def test_asked_for_tensorrt_is_never_answered_with_another(engines, gpu):
    with pytest.raises(EngineError, match='hmr engines build mock'):
        load_engine('mock', 'tensorrt')
    with pytest.raises(EngineError, match='fp32 only.*not tensorrt'):
        load_engine('mock', 'auto', 'fp16')


def test_fp16_is_in_the_graph_and_inputs_and_outputs_stay(engines, gpu):
    engine = build(precision='auto')
    assert engine.precision == 'fp16' and all(
        spec.dtype == 'float32' for spec in (*engine.inputs, *engine.outputs))
    exact = load_engine('mock', 'onnxruntime').run({'image': images(4)})
    error = np.abs(engine.run({'image': images(4)})['uvd'] - exact['uvd']).max()
    assert 0 < error < 5e-3


@pytest.mark.parametrize('options, hint', [
    ({'max_batch': 0}, 'max_batch is 0'), ({'workspace_mb': 0}, 'workspace_mb'),
    ({'compatibility': 'any'}, 'exact, version, hardware')])
def test_options_that_make_no_sense(options, hint):
    with pytest.raises(EngineError, match=hint):
        BuildOptions(**options)
