# SPDX-License-Identifier: Apache-2.0
"""Engines load by name, network or path, compute what they should, and refuse what they must."""

from dataclasses import replace
import sys

from mock_networks import write_mock, write_temporal_mock
import numpy as np
import pytest

from hmr_ros.runtime import Engine, EngineError, TensorSpec, load_engine
from hmr_ros.runtime.manifest import add_entry, read_manifest
from hmr_ros.runtime.onnx_engine import OnnxEngine, WARM_UP_BATCH

pytest.importorskip('onnxruntime', reason='the onnxruntime backend is not installed')


def images(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize('how', ['mock', 'keypoint_guided', 'path'])
def test_named_specs_and_results(engines, how):
    engine = load_engine(str(engines / 'mock.onnx') if how == 'path' else how)
    assert isinstance(engine, Engine)
    assert engine.name == 'mock' and engine.backend == 'onnxruntime' and len(engine.sha256) == 64
    assert engine.inputs == (TensorSpec('image', (-1, 3, 8, 8), 'float32'),)
    batch = images(5)
    outputs = engine.run({'image': batch})
    assert outputs['uvd'].shape == (5, 96, 3) and outputs['cam'].shape == (5, 3)
    weight = np.random.default_rng(0).normal(size=(3, 288)).astype(np.float32)
    np.testing.assert_allclose(
        outputs['uvd'].reshape(5, -1), batch.mean((2, 3)) @ weight, atol=1e-5)


@pytest.mark.parametrize('most, warm_up', [(2, 2), (100, WARM_UP_BATCH), (None, WARM_UP_BATCH)])
def test_nothing_larger_is_warmed_up_than_ever_comes(engines, most, warm_up, monkeypatch):
    add_entry(engines, replace(read_manifest(engines)['mock'], max_batch=most))
    seen, run = [], OnnxEngine.run
    monkeypatch.setattr(OnnxEngine, 'run', lambda self, feeds: (
        seen.append(len(feeds['image'])), run(self, feeds))[1])
    load_engine('mock', 'onnxruntime')
    assert seen == [warm_up]


def test_weights_stored_as_float16(tmp_path):
    full = load_engine(str(write_mock(tmp_path / 'full.onnx')))
    half = load_engine(str(write_mock(tmp_path / 'half.onnx', np.float16)))
    assert half.entry is None
    feeds = {'image': images(2)}
    for name, array in full.run(feeds).items():
        np.testing.assert_allclose(half.run(feeds)[name], array, atol=5e-3)
        assert half.run(feeds)[name].dtype == np.float32


@pytest.mark.parametrize('feeds, hint', [
    ({}, 'takes the inputs image'),
    ({'image': images(1), 'more': images(1)}, 'more'),
    ({'image': images(1)[:, :, :7]}, r'\[1, 3, 7, 8\].*expected float32 \[-1, 3, 8, 8\]'),
    ({'image': images(1).astype(np.float64)}, 'float64'),
    ({'image': images(0)}, r'\[0, 3, 8, 8\]'),
    ({'image': images(1) * np.nan}, 'NaN')])
def test_wrong_feeds_are_named_and_the_engine_lives_on(engines, feeds, hint):
    engine = load_engine('mock')
    with pytest.raises(EngineError, match=hint):
        engine.run(feeds)
    assert engine.run({'image': images(1)})['cam'].shape == (1, 3)


def test_closed_engine(engines):
    engine = load_engine('mock')
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        engine.run({'image': images(1)})


def test_changed_file_is_refused(engines):
    path = engines / 'mock.onnx'
    path.write_bytes(path.read_bytes() + b'\0')
    for how in ('mock', str(path)):
        with pytest.raises(EngineError, match='SHA-256.*manifest says'):
            load_engine(how)


def test_missing_and_damaged_files(engines, tmp_path):
    (engines / 'mock.onnx').unlink()
    with pytest.raises(EngineError, match='mock.onnx cannot be read'):
        load_engine('mock')
    (engines / 'other.onnx').write_bytes(b'not a network')
    with pytest.raises(EngineError, match='other.onnx is not an ONNX model'):
        load_engine(str(engines / 'other.onnx'))
    with pytest.raises(EngineError, match='lists: mock, mock_2'):
        load_engine('nobody')


def test_manifest_that_disagrees_with_the_file(engines):
    path = engines / 'manifest.yaml'
    path.write_text(path.read_text().replace('- 96', '- 29'))
    with pytest.raises(EngineError, match=r'uvd float32\[-1, 96, 3\].*manifest lists'):
        load_engine('mock')


def test_only_the_batch_may_be_free(tmp_path):
    with pytest.raises(EngineError, match="'image'.*only one axis"):
        load_engine(str(write_mock(tmp_path / 'free.onnx', free_axis=True)))


@pytest.mark.parametrize('options, hint', [
    ({'backend': 'tensorrt'}, 'tensorrt cannot be imported.*JetPack'),
    ({'backend': 'tpu'}, 'expected one of auto'),
    ({'precision': 'fp16'}, 'fp32 only'),
    ({'precision': 'int4'}, 'expected one of auto, fp32'),
    ({'threads': -1}, 'threads')])
def test_options_that_cannot_be_had(engines, options, hint, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    with pytest.raises(EngineError, match=hint):
        load_engine('mock', **options)


def test_output_sizes_that_the_exporter_left_open_are_measured(tmp_path):
    engine = load_engine(str(write_mock(tmp_path / 'open.onnx', unknown_outputs=True)))
    assert {spec.name: spec.shape for spec in engine.outputs} == {
        'uvd': (-1, 96, 3), 'cam': (-1, 3)}


def test_a_state_may_have_its_batch_on_the_second_axis(tmp_path):
    engine = load_engine(str(write_temporal_mock(tmp_path / 'temporal.onnx')))
    assert {spec.name: spec.shape for spec in (*engine.inputs, *engine.outputs)} == {
        'feature': (-1, 6), 'h_in': (2, -1, 5), 'pose6d': (-1, 144), 'betas': (-1, 10),
        'cam': (-1, 3), 'h_out': (2, -1, 5)}
    feeds = {'feature': np.ones((3, 6), np.float32), 'h_in': np.ones((2, 3, 5), np.float32)}
    assert engine.run(feeds)['h_out'].shape == (2, 3, 5)
    with pytest.raises(EngineError, match=r'different batch sizes: \[3, 4\]'):
        engine.run({**feeds, 'h_in': np.ones((2, 4, 5), np.float32)})
