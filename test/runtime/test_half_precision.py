# SPDX-License-Identifier: Apache-2.0
"""The graph says in which precision it computes, and computes the same."""

from mock_networks import write_mock, write_quantized
import numpy as np
import pytest

from hmr_ros.runtime import EngineError, load_engine
from hmr_ros.runtime.benchmark import random_feeds
from hmr_ros.runtime.half_precision import EXACT_NODE, typed_network
from hmr_ros.runtime.checks import choose_precision
from hmr_ros.runtime.manifest import engines_folder, read_manifest, specs

onnx = pytest.importorskip('onnx', reason='building engines needs the onnx package')
onnxruntime = pytest.importorskip('onnxruntime', reason='fp16 is made by onnxruntime')
SHIPPED = sorted(name for name, entry in read_manifest(engines_folder()).items()
                 if entry.weights != 'int8')
#: what noise may change in float16, where that is more than 0.002 of the largest output; people are
#: judged in the tests of the digitizer's export.
NOISY = {'digitizer_2k2k_low': 4e-3}


def session(content):
    return onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])


@pytest.mark.parametrize('name', SHIPPED)
@pytest.mark.parametrize('precision, tolerance', [('fp32', 1e-5), ('fp16', 2e-3)])
def test_shipped_engines_keep_their_results_and_their_tensors(name, precision, tolerance):
    entry = read_manifest(engines_folder())[name]
    path = engines_folder() / entry.file
    before = session(path.read_bytes())
    after = session(typed_network(path.read_bytes(), precision, path))
    feeds = random_feeds(specs(entry.inputs, entry.dtypes), 3)
    for item, old, new in zip(before.get_outputs(), before.run(None, feeds),
                              after.run(None, feeds)):
        assert new.dtype == np.float32 and new.shape == old.shape
        limit = NOISY.get(name, tolerance) if precision == 'fp16' else tolerance
        assert np.abs(new - old).max() < limit * max(np.abs(old).max(), 1), item.name


@pytest.mark.parametrize('name', SHIPPED)
def test_kernels_are_constants_and_norms_keep_float32(name):
    path = engines_folder() / read_manifest(engines_folder())[name].file
    model = onnx.shape_inference.infer_shapes(
        onnx.load_model_from_string(typed_network(path.read_bytes(), 'fp16', path)))
    onnx.checker.check_model(model)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types = {**stored, **{value.name: value.type.tensor_type.elem_type
                          for value in (*model.graph.value_info, *model.graph.output)}}
    assert not [n for n in model.graph.node if n.op_type == 'Cast' and n.input[0] in stored]
    for node in model.graph.node:
        if node.name.startswith(EXACT_NODE):
            continue
        if node.op_type in ('Conv', 'Gemm', 'MatMul'):
            assert types[node.output[0]] == onnx.TensorProto.FLOAT16, node.name
        if node.op_type in ('LayerNormalization', 'ReduceL2', 'Softmax'):
            assert types[node.output[0]] == onnx.TensorProto.FLOAT, node.name



def test_quantization_is_explicit_or_not_at_all(tmp_path):
    path = write_mock(tmp_path / 'mock.onnx')
    plain, explicit = path.read_bytes(), write_quantized(path).read_bytes()
    for best in ('fp16', 'fp32'):
        assert choose_precision('auto', best, plain, path) == best
    assert choose_precision('auto', 'fp16', explicit, path) == 'int8'
    assert choose_precision('int8', 'fp16', explicit, path) == 'int8'
    with pytest.raises(EngineError, match='mock.onnx has no QuantizeLinear.*`hmr quantize`'):
        choose_precision('int8', 'fp16', plain, path)
    for precision in ('fp16', 'fp32'):
        with pytest.raises(EngineError, match=f'is quantized.*precision is {precision}'):
            choose_precision(precision, 'fp16', explicit, path)


def test_onnxruntime_says_int8_of_a_quantized_file_and_takes_no_other(tmp_path):
    plain = write_mock(tmp_path / 'mock.onnx')
    explicit = str(write_quantized(plain))
    for precision in ('auto', 'int8'):
        engine = load_engine(explicit, 'onnxruntime', precision)
        assert engine.precision == 'int8'
        assert engine.run(random_feeds(engine.inputs, 2))['cam'].shape == (2, 3)
    assert load_engine(str(plain), 'onnxruntime').precision == 'fp32'
    with pytest.raises(EngineError, match='quantized.onnx is quantized.*precision is fp32'):
        load_engine(explicit, 'onnxruntime', 'fp32')
    with pytest.raises(EngineError, match='mock.onnx has no QuantizeLinear.*`hmr quantize`'):
        load_engine(str(plain), 'onnxruntime', 'int8')


def test_zero_points_that_tensorrt_lacks_are_refused_before_it_is_asked(tmp_path):
    path = write_mock(tmp_path / 'mock.onnx')
    with pytest.raises(EngineError, match='int8 zero point -?[1-9].*--target both'):
        typed_network(write_quantized(path, symmetric=False).read_bytes(), 'int8', path)


def test_a_quantized_file_stays_quantized(tmp_path):
    path = write_mock(tmp_path / 'mock.onnx')
    content = write_quantized(path).read_bytes()
    kinds = {n.op_type for n in onnx.load_model_from_string(
        typed_network(content, 'int8', path)).graph.node}
    assert {'QuantizeLinear', 'DequantizeLinear'} <= kinds


def test_what_is_not_onnx_is_named(tmp_path):
    with pytest.raises(EngineError, match='other.onnx is not an ONNX model'):
        typed_network(b'nothing', 'fp16', tmp_path / 'other.onnx')
