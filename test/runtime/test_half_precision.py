# SPDX-License-Identifier: Apache-2.0
"""The graph says in which precision it computes, and computes the same."""

from mock_networks import write_mock
import numpy as np
import pytest

from hmr_ros.runtime import EngineError
from hmr_ros.runtime.benchmark import random_feeds
from hmr_ros.runtime.half_precision import choose_precision, typed_network
from hmr_ros.runtime.manifest import engines_folder, read_manifest, specs

onnx = pytest.importorskip('onnx', reason='building engines needs the onnx package')
onnxruntime = pytest.importorskip('onnxruntime', reason='fp16 is made by onnxruntime')
SHIPPED = sorted(read_manifest(engines_folder()))


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
        assert np.abs(new - old).max() < tolerance * max(np.abs(old).max(), 1), item.name


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
        if node.op_type in ('Conv', 'Gemm', 'MatMul'):
            assert types[node.output[0]] == onnx.TensorProto.FLOAT16, node.name
        if node.op_type in ('LayerNormalization', 'ReduceL2', 'Softmax'):
            assert types[node.output[0]] == onnx.TensorProto.FLOAT, node.name


def quantized(path):
    from onnxruntime.quantization import CalibrationDataReader, quantize_static, QuantFormat

    class Reader(CalibrationDataReader):
        """Two pictures."""

        def __init__(self):
            self._left = [np.ones((1, 3, 8, 8), np.float32)] * 2

        def get_next(self):
            return {'image': self._left.pop()} if self._left else None
    target = path.with_name('quantized.onnx')
    quantize_static(str(path), str(target), Reader(), quant_format=QuantFormat.QDQ)
    return target.read_bytes()


def test_quantization_is_explicit_or_not_at_all(tmp_path):
    path = write_mock(tmp_path / 'mock.onnx')
    plain, explicit = path.read_bytes(), quantized(path)
    assert choose_precision('auto', plain, path) == 'fp16'
    assert choose_precision('auto', explicit, path) == 'int8'
    assert choose_precision('int8', explicit, path) == 'int8'
    with pytest.raises(EngineError, match='mock.onnx has no QuantizeLinear.*quantize_static'):
        choose_precision('int8', plain, path)
    for precision in ('fp16', 'fp32'):
        with pytest.raises(EngineError, match=f'is quantized.*precision is {precision}'):
            choose_precision(precision, explicit, path)


def test_a_quantized_file_stays_quantized(tmp_path):
    path = write_mock(tmp_path / 'mock.onnx')
    content = quantized(path)
    kinds = {n.op_type for n in onnx.load_model_from_string(
        typed_network(content, 'int8', path)).graph.node}
    assert {'QuantizeLinear', 'DequantizeLinear'} <= kinds


def test_what_is_not_onnx_is_named(tmp_path):
    with pytest.raises(EngineError, match='other.onnx is not an ONNX model'):
        typed_network(b'nothing', 'fp16', tmp_path / 'other.onnx')
