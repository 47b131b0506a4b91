# SPDX-License-Identifier: Apache-2.0
"""On a processor the quantized file of an engine is taken, unless something else was said."""

from __future__ import annotations

from dataclasses import replace

from mock_networks import write_quantized
import numpy as np
import pytest

from hmr_ros.runtime import (
    BuildOptions, EngineError, load_engine, load_fastest, quantized_engines)
from hmr_ros.runtime.benchmark import Contender
from hmr_ros.runtime.manifest import add_entry, file_sha256, read_manifest

pytest.importorskip('onnxruntime', reason='the onnxruntime backend is not installed')
pytest.importorskip('onnx', reason='quantizing needs the onnx package')


@pytest.fixture
def with_quantized(engines):
    """Add a quantized file of the mock to the manifest."""
    path = write_quantized(engines / 'mock.onnx', symmetric=False)
    entry = read_manifest(engines)['mock']
    add_entry(engines, replace(
        entry, name='mock_int8', file=path.name, sha256=file_sha256(path), weights='int8',
        quantized_from=entry.sha256))
    return engines


@pytest.mark.parametrize('precision', ['auto', 'int8'])
@pytest.mark.parametrize('backend', ['auto', 'onnxruntime'])
def test_the_quantized_file_runs_on_a_processor(with_quantized, backend, precision):
    engine = load_fastest('mock', backend, precision)
    assert (engine.name, engine.precision, engine.backend) == ('mock_int8', 'int8', 'onnxruntime')
    assert engine.sha256 == file_sha256(with_quantized / 'quantized.onnx')
    if precision == 'auto':
        assert engine.reason.endswith('quantized, as precision is auto')
    image = np.random.default_rng(0).uniform(0, 1, (2, 3, 8, 8)).astype(np.float32)
    exact = load_engine('mock').run({'image': image})
    np.testing.assert_allclose(engine.run({'image': image})['cam'], exact['cam'], atol=0.1)


def test_what_was_asked_for_is_what_comes(with_quantized):
    assert load_fastest('mock', precision='fp32').name == 'mock'
    assert load_fastest(str(with_quantized / 'mock.onnx')).precision == 'fp32', 'a path is a path'
    assert load_fastest('mock_int8').precision == 'int8'
    assert load_engine('mock').precision == 'fp32', 'only load_fastest chooses'
    with pytest.raises(EngineError, match='precision is fp16'):
        load_fastest('mock', 'onnxruntime', 'fp16')


@pytest.mark.torch
def test_torch_keeps_the_float_file_on_a_processor(with_quantized):
    pytest.importorskip('torch', reason='torch is not installed')
    engine = load_fastest('mock', 'torch')
    assert (engine.backend, engine.name) == ('torch', 'mock')


def test_without_a_quantized_file_nothing_changes(engines):
    assert load_fastest('mock').precision == 'fp32' and quantized_engines() == {}
    with pytest.raises(EngineError, match='hmr quantize'):
        load_fastest('mock', 'onnxruntime', 'int8')


def test_a_gpu_gets_the_float_file(with_quantized, install):
    install()
    engine = load_fastest('mock', build=BuildOptions(2, allow_engine_build=True))
    assert (engine.backend, engine.precision, engine.name) == ('tensorrt', 'fp16', 'mock')


def test_the_manifest_says_what_was_quantized_from_what(with_quantized):
    entries = read_manifest(with_quantized)
    assert quantized_engines() == {entries['mock_int8'].sha256: entries['mock'].sha256}


@pytest.mark.parametrize('backend', ['onnxruntime', 'bare'])
def test_benchmarks_do_not_call_fp32_by_another_name(with_quantized, backend):
    entries = read_manifest(with_quantized)
    for precision, words in (('fp16', 'precision is fp16'), ('int8', 'int8 needs')):
        with pytest.raises(EngineError, match=words):
            Contender(entries['mock'], backend, precision, 1).open()
    assert Contender(entries['mock'], backend, 'auto', 1).open().precision == 'fp32'
    assert Contender(entries['mock_int8'], backend, 'auto', 1).open().precision == 'int8'
