# SPDX-License-Identifier: Apache-2.0
"""Each operator by torch computes what onnxruntime computes, and what it lacks is named."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed')
onnx = pytest.importorskip('onnx', reason='writing networks needs the onnx package')
onnxruntime = pytest.importorskip('onnxruntime', reason='results are compared with onnxruntime')

from hmr_ros.runtime import EngineError  # noqa: E402
from hmr_ros.runtime.torch_network import TorchNetwork  # noqa: E402
from hmr_ros.runtime.torch_operators import OPERATORS  # noqa: E402

pytestmark = pytest.mark.torch
PICTURE, MATRIX, WHOLE = (2, 4, 7, 9), (3, 5), np.int64
POOL = {'kernel_shape': [3, 3], 'strides': [2, 2], 'pads': [1, 1, 1, 1]}
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def numbers(*values):
    return np.array(values, np.int64)


# Operator, shape of its first input, what it takes behind that, its attributes.
CASES = [
    ('Abs', MATRIX, [], {}),
    ('Add', MATRIX, [normal(5)], {}),
    ('AveragePool', PICTURE, [], {**POOL, 'count_include_pad': 1}),
    ('AveragePool', PICTURE, [], {**POOL, 'ceil_mode': 1}),
    ('BatchNormalization', PICTURE, [normal(4), normal(4), normal(4), normal(4) ** 2],
     {'epsilon': 1e-3}),
    ('Cast', MATRIX, [], {'to': onnx.TensorProto.INT64}),
    ('Clip', MATRIX, [np.float32(-0.5), np.float32(0.5)], {}),
    ('Clip', MATRIX, [np.float32(-0.5), None], {}),
    ('Concat', MATRIX, [normal(3, 2)], {'axis': -1}),
    ('Conv', PICTURE, [normal(6, 2, 3, 3), normal(6)],
     {'group': 2, 'pads': [2, 1, 2, 1], 'strides': [2, 1], 'dilations': [2, 1]}),
    ('Conv', (2, 4, 7), [normal(3, 4, 2)], {}),
    ('ConvTranspose', PICTURE, [normal(4, 3, 4, 4), normal(3)],
     {'pads': [1, 1, 1, 1], 'strides': [2, 2], 'output_padding': [1, 0]}),
    ('Div', MATRIX, [normal(5)], {}),
    ('Expand', (2, 1, 5), [numbers(3, 1)], {}),
    ('Flatten', PICTURE, [], {'axis': 2}),
    ('Flatten', PICTURE, [], {'axis': 0}),
    ('Gather', PICTURE, [numbers(2, -1, 0)], {'axis': 1}),
    ('Gather', PICTURE, [np.array(-2)], {'axis': 2}),
    ('Gather', MATRIX, [np.array([[1, 0], [2, 2]], np.int32)], {}),
    ('Gemm', MATRIX, [normal(4, 5), normal(4)], {'transB': 1, 'alpha': 0.5, 'beta': 2.0}),
    ('Gemm', MATRIX, [normal(3, 4)], {'transA': 1}),
    ('GreaterOrEqual', MATRIX, [normal(5)], {}),
    ('GridSample', PICTURE, [RNG.uniform(-1.3, 1.3, (2, 3, 5, 2)).astype(np.float32)],
     {'align_corners': 1}),
    ('GridSample', PICTURE, [RNG.uniform(-1.3, 1.3, (2, 3, 5, 2)).astype(np.float32)], {}),
    ('HardSwish', MATRIX, [], {}),
    ('Identity', MATRIX, [], {}),
    ('LayerNormalization', PICTURE, [normal(7, 9), normal(7, 9)], {'axis': 2, 'epsilon': 1e-3}),
    ('LayerNormalization', MATRIX, [normal(5)], {}),
    ('MatMul', (2, 3, 5), [normal(5, 4)], {}),
    ('MaxPool', PICTURE, [], {**POOL, 'ceil_mode': 1}),
    ('Mul', MATRIX, [normal(3, 1)], {}),
    ('Pad', PICTURE, [numbers(0, 1, 2, 0, 0, 0, 1, 3), np.float32(1.5)], {}),
    ('Pad', PICTURE, [numbers(1, -2), None, numbers(3)], {}),
    ('PRelu', PICTURE, [normal(4, 1, 1)], {}),
    ('Pow', MATRIX, [np.float32(3)], {}),
    ('ReduceL2', PICTURE, [numbers(-1, 1)], {'keepdims': 0}),
    ('ReduceMax', PICTURE, [numbers(2, -1)], {}),
    ('ReduceMax', PICTURE, [numbers(1)], {'keepdims': 0}),
    ('ReduceMean', PICTURE, [numbers(2, 3)], {}),
    ('ReduceSum', PICTURE, [numbers(1)], {'keepdims': 0}),
    ('Relu', MATRIX, [], {}),
    ('Reshape', PICTURE, [numbers(0, -1, 9)], {}),
    ('Resize', PICTURE, [None, np.float32([1, 1, 3, 2])],
     {'coordinate_transformation_mode': 'asymmetric', 'nearest_mode': 'floor'}),
    ('RoiAlign', PICTURE, [np.float32([[1, 0.5, 6, 5], [-2, -3, 12, 9], [2, 2, 2.3, 4]]),
                           numbers(1, 0, 1)],
     {'output_height': 3, 'output_width': 2, 'spatial_scale': 0.5,
      'coordinate_transformation_mode': 'output_half_pixel'}),
    ('Shape', PICTURE, [], {'start': 1, 'end': -1}),
    ('Sigmoid', MATRIX, [], {}),
    ('Slice', PICTURE, [numbers(1, -3), numbers(2 ** 62, -1), numbers(2, -1), numbers(2, 1)], {}),
    ('Slice', PICTURE, [numbers(-1, 4), numbers(-2 ** 62, 0), numbers(0, 2), numbers(-1, -2)], {}),
    ('Slice', MATRIX, [numbers(2, 3), numbers(1, 5)], {}),
    ('Softmax', PICTURE, [], {'axis': 1}),
    ('Split', PICTURE, [numbers(1, 3)], {'axis': 1}),
    ('Squeeze', (3, 1, 5, 1), [numbers(1, -1)], {}),
    ('Sub', MATRIX, [normal(5)], {}),
    ('Tanh', MATRIX, [], {}),
    ('Tile', MATRIX, [numbers(2, 3)], {}),
    ('Transpose', PICTURE, [], {'perm': [0, 2, 3, 1]}),
    ('Unsqueeze', MATRIX, [numbers(-1, 1)], {}),
]
# Whole numbers, as shapes are computed with, and what is chosen by.
WHOLE_CASES = [('Div', numbers(7, -7, 5), [numbers(2, 2, -3)], {}),
               ('Mod', numbers(7, -7, 5), [numbers(3, 3, -3)], {}),
               ('Mod', numbers(7, -7, 5), [numbers(3, 3, -3)], {'fmod': 1}),
               ('Sub', numbers(7, -7, 5), [numbers(1)], {}),
               ('Where', np.array([True, False, True]), [normal(3), normal(2, 1)], {})]


def model_of(kind, shape, dtype, others, attributes, opset=18):
    helper, names = onnx.helper, ['x']
    stored = []
    for index, array in enumerate(others):
        names.append('' if array is None else f'c{index}')
        if array is not None:
            stored.append(onnx.numpy_helper.from_array(np.asarray(array), f'c{index}'))
    results = ['y', 'z'] if kind == 'Split' else ['y']
    node = helper.make_node(kind, names, results, **attributes)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], 'one', [value('x', helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)],
        [helper.make_empty_tensor_value_info(name) for name in results], stored)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model).SerializeToString()


def by_torch(content, x, tmp_path):
    network = TorchNetwork(content, tmp_path / 'one.onnx', torch.device('cpu'))
    feeds = {'x': torch.from_numpy(x)}
    program, first = network.trace(feeds)
    with torch.inference_mode():
        again = program(feeds)
    for name, tensor in first.items():
        torch.testing.assert_close(again[name], tensor)
    return [tensor.numpy() for tensor in again.values()]


@pytest.mark.parametrize('kind, x, others, attributes', [
    *((kind, normal(*shape), others, attributes) for kind, shape, others, attributes in CASES),
    *WHOLE_CASES])
def test_operators_equal_those_of_onnxruntime(kind, x, others, attributes, tmp_path):
    content = model_of(kind, x.shape, x.dtype, others, attributes)
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    for expected, found in zip(session.run(None, {'x': x}), by_torch(content, x, tmp_path)):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_every_operator_is_compared():
    compared = {case[0] for case in (*CASES, *WHOLE_CASES)}
    # Those have no tensor to start from; shipped engines hold two, and there is a test of the third.
    assert set(OPERATORS) - compared == {'Constant', 'ConstantOfShape', 'Range'}


@pytest.mark.parametrize('people', [1, 4])
def test_a_range_counts_the_people_of_a_batch(people, tmp_path):
    helper, value = onnx.helper, onnx.helper.make_tensor_value_info
    nodes = [helper.make_node('Shape', ['x'], ['shape']),
             helper.make_node('Gather', ['shape', 'first'], ['count']),
             helper.make_node('Range', ['first', 'count', 'one'], ['y'])]
    stored = [onnx.numpy_helper.from_array(np.array(number), name)
              for number, name in ((0, 'first'), (1, 'one'))]
    graph = helper.make_graph(
        nodes, 'rows', [value('x', onnx.TensorProto.FLOAT, ['n', 3])],
        [value('y', onnx.TensorProto.INT64, ['n'])], stored)
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=8).SerializeToString()
    found, = by_torch(content, normal(people, 3), tmp_path)
    np.testing.assert_array_equal(found, np.arange(people))


@pytest.mark.parametrize('kind, others, attributes, hint', [
    ('Erf', [], {}, 'does not know: Erf'),
    ('Pad', [numbers(0, 0, 1, 1, 0, 0, 1, 1)], {'mode': 'reflect'}, "operator Pad .*'reflect'"),
    ('MaxPool', [], {'kernel_shape': [2, 2], 'pads': [0, 0, 1, 1]}, r'MaxPool .*\[0, 0, 1, 1\]'),
    ('Resize', [None, np.float32([1, 1, 2, 2])], {'mode': 'linear'}, 'Resize .*linear'),
    ('Conv', [normal(3, 4, 3, 3)], {'auto_pad': 'SAME_UPPER'}, "operator Conv .*'auto_pad'"),
    ('Cast', [], {'to': onnx.TensorProto.BFLOAT16}, 'operator Cast .*type 16'),
    ('ReduceSum', [], {'noop_with_empty_axes': 1}, 'operator ReduceSum .*noop')])
def test_what_is_not_supported_is_named(kind, others, attributes, hint, tmp_path):
    x = normal(*PICTURE)
    with pytest.raises(EngineError, match=f'(?s){hint}.*backend onnxruntime'):
        by_torch(model_of(kind, x.shape, x.dtype, others, attributes), x, tmp_path)


def test_a_shape_that_the_network_computes_is_refused(tmp_path):
    helper, value = onnx.helper, onnx.helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node('Reshape', ['x', 'shape'], ['y'], 'turn')], 'two',
        [value('x', 1, [2, 3]), value('shape', 7, [2])], [value('y', 1, [None, None])])
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=8).SerializeToString()
    network = TorchNetwork(content, tmp_path / 'two.onnx', torch.device('cpu'))
    with pytest.raises(EngineError, match="Reshape .node 'turn'. of .*two.onnx takes 'shape'"):
        network.trace({'x': torch.zeros(2, 3), 'shape': torch.tensor([3, 2])})


def test_old_opsets_are_refused(tmp_path):
    content = model_of('Relu', MATRIX, np.float32, [], {}, opset=12)
    with pytest.raises(EngineError, match='one.onnx has opset 12; .*13 and newer'):
        by_torch(content, normal(*MATRIX), tmp_path)
