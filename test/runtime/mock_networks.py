# SPDX-License-Identifier: Apache-2.0
"""Tiny ONNX files with the input and output names of the real networks."""

import numpy as np
import pytest

IMAGE = (-1, 3, 8, 8)
OUTPUTS = {'uvd': (-1, 96, 3), 'cam': (-1, 3)}


def write_mock(path, dtype=np.float32, free_axis=False, unknown_outputs=False):
    """Write a network whose outputs are linear maps of the mean colour of the image."""
    onnx = pytest.importorskip('onnx', reason='writing mock networks needs the onnx package')
    helper, rng = onnx.helper, np.random.default_rng(0)
    size = 'side' if free_axis else 8
    nodes = [helper.make_node('ReduceMean', ['image'], ['mean'], axes=[2, 3], keepdims=0)]
    constants = []
    for name, shape in OUTPUTS.items():
        width = int(np.prod(shape[1:]))
        weight = rng.normal(size=(3, width)).astype(dtype)
        constants.append(onnx.numpy_helper.from_array(weight, f'{name}_stored'))
        constants.append(onnx.numpy_helper.from_array(np.int64([-1, *shape[1:]]), f'{name}_shape'))
        nodes += [
            helper.make_node('Cast', [f'{name}_stored'], [f'{name}_weight'], to=1),
            helper.make_node('MatMul', ['mean', f'{name}_weight'], [f'{name}_flat']),
            helper.make_node('Reshape', [f'{name}_flat', f'{name}_shape'], [name])]
    graph = helper.make_graph(
        nodes, 'mock',
        [helper.make_tensor_value_info('image', 1, ['N', 3, size, size])],
        [helper.make_tensor_value_info(
            name, 1, ['N', *(f'{name}_{s}' if unknown_outputs else s for s in shape[1:])])
         for name, shape in OUTPUTS.items()], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def write_mock_with_rows(path):
    """Write a network of two inputs: the mean colour of the image, times its whole-number row."""
    onnx = pytest.importorskip('onnx', reason='writing mock networks needs the onnx package')
    helper, value = onnx.helper, onnx.helper.make_tensor_value_info
    nodes = [helper.make_node('ReduceMean', ['image'], ['mean'], axes=[2, 3], keepdims=0),
             helper.make_node('Cast', ['row'], ['factor'], to=1),
             helper.make_node('Unsqueeze', ['factor', 'last'], ['column']),
             helper.make_node('Mul', ['mean', 'column'], ['colour'])]
    graph = helper.make_graph(
        nodes, 'mock_with_rows', [value('image', 1, ['N', 3, 8, 8]), value('row', 7, ['N'])],
        [value('colour', 1, ['N', 3])], [onnx.numpy_helper.from_array(np.int64([1]), 'last')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def write_temporal_mock(path, features=6, hidden=5, layers=2):
    """
    Write a recurrent network: each layer halves its state and adds a linear map of the feature.

    Pose and shape are linear maps of the new state of the last layer; poses are near identity.
    """
    onnx = pytest.importorskip('onnx', reason='writing mock networks needs the onnx package')
    helper, rng, value = onnx.helper, np.random.default_rng(1), onnx.helper.make_tensor_value_info
    outputs = {'pose6d': 144, 'betas': 10, 'cam': 3}
    constants = {
        'weight': rng.normal(0, 0.3, (features, hidden)), 'half': np.array(0.5),
        'pose6d_bias': np.tile([1.0, 0, 0, 1, 0, 0], 24), 'betas_bias': np.zeros(10),
        'cam_bias': np.array([0.9, 0, 0]),
        **{f'{name}_weight': rng.normal(0, 0.1, (hidden, n)) for name, n in outputs.items()}}
    initializers = [
        onnx.numpy_helper.from_array(np.float32(array), name) for name, array in constants.items()]
    initializers.append(onnx.numpy_helper.from_array(np.int64(layers - 1), 'last'))
    nodes = [
        helper.make_node('MatMul', ['feature', 'weight'], ['new']),
        helper.make_node('Mul', ['h_in', 'half'], ['old']),
        helper.make_node('Add', ['old', 'new'], ['h_out']),
        helper.make_node('Gather', ['h_out', 'last'], ['top'], axis=0)]
    for name in outputs:
        nodes += [helper.make_node('MatMul', ['top', f'{name}_weight'], [f'{name}_map']),
                  helper.make_node('Add', [f'{name}_map', f'{name}_bias'], [name])]
    graph = helper.make_graph(
        nodes, 'temporal_mock',
        [value('feature', 1, ['N', features]), value('h_in', 1, [layers, 'N', hidden])],
        [*(value(name, 1, ['N', n]) for name, n in outputs.items()),
         value('h_out', 1, [layers, 'N', hidden])], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def write_convolutions(path, outlier='', layers=4, channels=8, outputs=None, size=8):
    """
    Write convolutions `conv_0` ... with activations, a residual sum, and maps to `outputs`.

    One weight of the layer `outlier` is a thousand times the others, in every channel, so that 8
    bits leave nothing of those; the layer before gives it zeros, so that it does nothing else.
    """
    onnx = pytest.importorskip('onnx', reason='writing mock networks needs the onnx package')
    helper, rng = onnx.helper, np.random.default_rng(2)
    constants, nodes, before = {}, [], 'image'
    for i in range(layers):
        width = 3 if i == 0 else channels
        weight = rng.normal(0, (2 / (9 * width)) ** 0.5, (channels, width, 3, 3))
        if outlier == f'conv_{i}':
            weight[:, 0, 1, 1] *= 1000
        bias = rng.normal(0, 0.1, channels)
        if outlier == f'conv_{i + 1}':
            weight[0], bias[0] = 0, 0
        constants |= {f'kernel_{i}': weight, f'bias_{i}': bias}
        nodes += [
            helper.make_node('Conv', [before, f'kernel_{i}', f'bias_{i}'], [f'map_{i}'],
                             name=f'conv_{i}', pads=[1, 1, 1, 1]),
            helper.make_node('Relu', [f'map_{i}'], [f'active_{i}'], name=f'relu_{i}')]
        before = f'active_{i}'
    outputs = outputs or {'uvd': (96, 3)}
    nodes += [
        helper.make_node('Add', [before, f'active_{layers - 2}'], ['sum'], name='sum'),
        helper.make_node('GlobalAveragePool', ['sum'], ['pooled'], name='pool'),
        helper.make_node('Flatten', ['pooled'], ['flat'], name='flatten')]
    tensors = [onnx.numpy_helper.from_array(np.float32(array), name)
               for name, array in constants.items()]
    for name, shape in outputs.items():
        # As the exporter stores them: float16 behind a Cast.
        weight = rng.normal(0, 0.3, (channels, int(np.prod(shape)))).astype(np.float16)
        tensors += [onnx.numpy_helper.from_array(weight, f'{name}_stored'),
                    onnx.numpy_helper.from_array(np.int64([-1, *shape]), f'{name}_shape')]
        nodes += [
            helper.make_node('Cast', [f'{name}_stored'], [f'{name}_weight'], to=1),
            helper.make_node('MatMul', ['flat', f'{name}_weight'], [f'{name}_flat'],
                             name=f'matmul_{name}'),
            helper.make_node('Reshape', [f'{name}_flat', f'{name}_shape'], [name])]
    graph = helper.make_graph(
        nodes, 'convolutions',
        [helper.make_tensor_value_info('image', 1, ['N', 3, size, size])],
        [helper.make_tensor_value_info(name, 1, ['N', *shape])
         for name, shape in outputs.items()], tensors)
    onnx.save(helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), str(path))
    return path


def write_detector(path, boxes, scores, size=(32, 64), classes=1):
    """
    Write a detector of pictures of `size` that says `boxes` (M, 4), with `scores` (M,).

    Scores are times the largest level of the picture: in the dark it sees nobody.
    """
    onnx = pytest.importorskip('onnx', reason='writing mock networks needs the onnx package')
    helper, value = onnx.helper, onnx.helper.make_tensor_value_info
    boxes, scores = np.float32(boxes)[None], np.float32(scores)[None, :, None]
    constants = {'the_boxes': boxes, 'the_scores': np.repeat(scores, classes, 2),
                 'zero': np.float32(0)}
    nodes = [helper.make_node('ReduceMax', ['image'], ['light'], axes=[1, 2, 3], keepdims=0),
             helper.make_node('Unsqueeze', ['light', 'last'], ['column']),
             helper.make_node('Mul', ['column', 'the_scores'], ['scores']),
             helper.make_node('Mul', ['column', 'zero'], ['nothing']),
             helper.make_node('Add', ['nothing', 'the_boxes'], ['boxes'])]
    graph = helper.make_graph(
        nodes, 'detector', [value('image', 1, ['N', 3, *size])],
        [value('boxes', 1, ['N', boxes.shape[1], 4]),
         value('scores', 1, ['N', boxes.shape[1], classes])],
        [onnx.numpy_helper.from_array(np.int64([1, 2]), 'last'),
         *(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def write_quantized(path, symmetric=True):
    """Write quantized.onnx, made of the mock `path` by onnxruntime, beside it."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static, QuantFormat

    class Reader(CalibrationDataReader):
        """Two pictures."""

        def __init__(self):
            self._left = [np.ones((1, 3, 8, 8), np.float32)] * 2

        def get_next(self):
            return {'image': self._left.pop()} if self._left else None
    target = path.with_name('quantized.onnx')
    quantize_static(str(path), str(target), Reader(), quant_format=QuantFormat.QDQ,
                    extra_options={'ActivationSymmetric': symmetric})
    return target
