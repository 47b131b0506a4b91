# SPDX-License-Identifier: Apache-2.0
"""Tiny ONNX files with the input and output names of the real network."""

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
