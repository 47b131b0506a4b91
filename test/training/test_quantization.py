# SPDX-License-Identifier: Apache-2.0
"""int8 files say what those who run them take, stay near the original, and name what costs."""

from dataclasses import replace
from pathlib import Path
import sys

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='quantization needs the onnx package')
onnxruntime = pytest.importorskip(
    'onnxruntime', reason='quantization is done by onnxruntime')
sys.path.insert(0, str(Path(__file__).parents[1] / 'runtime'))

from mock_networks import write_convolutions  # noqa: E402

from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.runtime.half_precision import typed_network  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.quantization import (  # noqa: E402
    calibrate, float_network, METHODS, quantizable, quantized, TARGETS)
from hmr_ros.training.sensitivity import (  # noqa: E402
    BODIES, Candidate, choose_layers, Judge, layer_losses, runner)

BOTH_TARGETS = pytest.mark.parametrize('target', [TARGETS['both'], TARGETS['cpu']],
                                       ids=['both', 'cpu'])


def feeds(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [{'image': (scale * rng.normal(size=(8, 3, 8, 8))).astype(np.float32)}
            for _ in range(3)]


def mock(folder, **options):
    path = write_convolutions(folder / 'mock.onnx', **options)
    return float_network(path.read_bytes(), path), path


def tensors_of(content):
    graph = onnx.load_model_from_string(content).graph
    return graph, {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}


def candidate_of(model, path, target):
    batches = feeds(1)

    def joints(run):
        return np.concatenate([run(feed)['uvd'] for feed in batches])
    original = runner(model.SerializeToString(), path, 1)
    noise = np.random.default_rng(3).normal(0, 0.05, (24, 96, 3))
    return Candidate(model, target, calibrate(model, target, feeds()),
                     Judge(joints, joints(original) + noise, original), path)


def test_a_float_network_has_constant_kernels_and_computes_the_same(tmp_path):
    model, path = mock(tmp_path)
    assert not [node for node in model.graph.node if node.op_type == 'Cast']
    before, after = runner(path.read_bytes(), path, 1), runner(model.SerializeToString(), path, 1)
    np.testing.assert_allclose(after(feeds()[0])['uvd'], before(feeds()[0])['uvd'], atol=1e-5)


def test_what_can_be_int8(tmp_path):
    model, _ = mock(tmp_path)
    convolutions = tuple(f'conv_{i}' for i in range(4))
    assert quantizable(model, TARGETS['cpu']) == convolutions
    assert quantizable(model, TARGETS['both']) == (*convolutions, 'matmul_uvd')


def test_a_file_for_both_is_symmetric_and_tensorrt_may_have_it(tmp_path):
    model, path = mock(tmp_path)
    target = TARGETS['both']
    content = quantized(model, target, calibrate(model, target, feeds()),
                        quantizable(model, target))
    graph, tensors = tensors_of(content)
    nodes = [n for n in graph.node if n.op_type in ('QuantizeLinear', 'DequantizeLinear')]
    assert len(nodes) > 10
    for node in nodes:
        points = tensors[node.input[2]]
        assert points.dtype == np.int8 and not points.any(), node.name
    kernels = [n for n in nodes if n.input[0].startswith('kernel_')
               and n.op_type == 'QuantizeLinear']
    assert [tensors[n.input[1]].shape for n in kernels] == [(8,)] * 4, 'a scale per channel'
    taken = {name for n in graph.node if n.op_type == 'Conv' for name in n.input[2:]}
    assert taken == {f'bias_{i}' for i in range(4)}, 'biases stay float'
    onnx.checker.check_model(onnx.load_model_from_string(content))
    typed_network(content, 'int8', path)


def test_a_file_for_processors_has_int8_weights_and_needs_no_activations(tmp_path):
    model, _ = mock(tmp_path)
    target = TARGETS['cpu']
    content = quantized(model, target, calibrate(model, target, feeds()),
                        quantizable(model, target))
    graph, tensors = tensors_of(content)
    kernels = [tensors[n.input[0]] for n in graph.node if n.op_type == 'DequantizeLinear'
               and tensors.get(n.input[0], np.zeros(0)).ndim == 4]
    assert len(kernels) == 4
    assert all(k.dtype == np.int8 and 60 < np.abs(k.astype(int)).max() <= 64 for k in kernels)
    assert not [n for n in graph.node if n.op_type == 'Relu'], 'clipping does it'


@BOTH_TARGETS
def test_nothing_saturates_on_any_processor(target, tmp_path):
    # Without optimization onnxruntime computes in float what the file says.
    model, path = mock(tmp_path)
    content = quantized(model, target, calibrate(model, target, feeds()),
                        quantizable(model, target))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])
    feed = feeds(1)[0]
    true, = plain.run(['uvd'], feed)
    error = np.abs(runner(content, path, 1)(feed)['uvd'] - true)
    assert error.mean() < 0.01 * np.abs(true).mean()


@BOTH_TARGETS
@pytest.mark.parametrize('method', METHODS)
def test_results_stay_near_the_original_by_every_method(target, method, tmp_path):
    model, path = mock(tmp_path)
    content = quantized(model, target, calibrate(model, target, feeds(), method),
                        quantizable(model, target))
    (tmp_path / 'int8.onnx').write_bytes(content)
    engine = load_engine(str(tmp_path / 'int8.onnx'), 'onnxruntime')
    assert engine.precision == 'int8'
    feed = feeds(1)[0]
    true = runner(path.read_bytes(), path, 1)(feed)['uvd']
    error = np.abs(engine.run(feed)['uvd'] - true)
    assert 0 < error.mean() < 0.04 * np.abs(true).mean()


def test_ranges_are_those_of_the_pictures_that_are_given(tmp_path):
    model, path = mock(tmp_path)
    target, feed = TARGETS['both'], feeds(1)[0]
    true = runner(path.read_bytes(), path, 1)(feed)['uvd']

    def error(scale):
        ranges = calibrate(model, target, feeds(0, scale))
        content = quantized(model, target, ranges, quantizable(model, target))
        return np.abs(runner(content, path, 1)(feed)['uvd'] - true).mean()
    assert error(0.1) > 5 * error(1.0), 'pictures of a tenth of the contrast clip'
    assert error(30.0) > 5 * error(1.0), 'those of 30 times leave few steps'
    with pytest.raises(TrainingError, match='no pictures'):
        calibrate(model, target, [])


@BOTH_TARGETS
@pytest.mark.parametrize('outlier', ['conv_1', 'conv_2'])
def test_the_layer_with_an_outlier_is_found_and_left_in_float(target, outlier, tmp_path):
    model, path = mock(tmp_path, outlier=outlier)
    candidate = candidate_of(model, path, target)
    losses = list(layer_losses(candidate))
    assert [one.layer for one in losses] == list(quantizable(model, target))
    worst = max(losses, key=lambda one: one.loss.moved)
    assert worst.layer == outlier and worst.operator == 'Conv'
    choice = choose_layers(candidate, losses, budget=worst.loss.change / 2)
    assert choice.kept[0] == outlier and outlier not in choice.int8
    assert set(choice.int8) | set(choice.kept) == set(quantizable(model, target))
    assert choice.loss.change + choice.loss.spread <= worst.loss.change / 2


def test_without_harm_all_layers_are_int8_and_without_budget_none(tmp_path):
    model, path = mock(tmp_path)
    candidate = candidate_of(model, path, TARGETS['cpu'])
    losses = list(layer_losses(candidate))
    assert choose_layers(candidate, losses, 1e6).kept == ()
    with pytest.raises(TrainingError, match='no layer of .*mock.onnx.*within -1e'):
        choose_layers(candidate, losses, -1e6)


def test_a_float_network_loses_nothing_to_itself(tmp_path):
    model, path = mock(tmp_path)
    loss = candidate_of(model, path, TARGETS['both']).loss([])
    assert loss.moved < 1e-3 and abs(loss.change) < 1e-3 and loss.spread < 1e-3


def test_parts_that_stay_in_float_are_no_candidates(tmp_path):
    model, path = mock(tmp_path)
    whole = candidate_of(model, path, TARGETS['both'])
    part = replace(whole, float_parts=('conv_1',))
    assert 'conv_1' in whole.layers == quantizable(model, TARGETS['both'])
    assert part.layers == tuple(name for name in whole.layers if name != 'conv_1')
    assert [one.layer for one in layer_losses(part)] == list(part.layers)


def test_a_budget_in_another_unit_is_named(tmp_path):
    model, path = mock(tmp_path)
    candidate = candidate_of(model, path, TARGETS['cpu'])
    candidate.judge.measure = replace(BODIES, name='missed', unit='points')
    assert set(candidate.loss([]).row('points')) == {
        'moved_points', 'change_points', 'spread_points'}
    with pytest.raises(TrainingError, match='within -1e.* points of missed'):
        choose_layers(candidate, list(layer_losses(candidate)), -1e6)
