# SPDX-License-Identifier: Apache-2.0
"""Binary layers of an ONNX graph: weights of exactly +-1, in floats or in int8 (sheet, 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

#: operators that binary layers are, and the axis of their weights that outputs are on.
_OUTPUT_AXIS = {'Conv': 0, 'ConvTranspose': 1, 'Gemm': 0}
#: weights of one output channel differ by rounding at most.
_ALIKE = 1e-5


@dataclass(frozen=True)
class BinaryNode:
    """
    A layer that reads signs with weights of one size per output.

    signs  (out, ...) or (in, out, ...) int8, +-1, in the shape of its weights
    scale  (out,) float32, >= 0
    """

    node: onnx.NodeProto
    signs: np.ndarray
    scale: np.ndarray

    @property
    def axis(self) -> int:
        """Axis of the weights that outputs are on."""
        return _OUTPUT_AXIS[self.node.op_type]

    @property
    def bias(self) -> str | None:
        """Name of its bias, if any."""
        return self.node.input[2] if len(self.node.input) > 2 else None


def binary_nodes(graph: onnx.GraphProto) -> Iterator[BinaryNode]:
    """Find them: behind signs, with weights whose sizes are alike within each output."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    shared = {node.output[0]: node.input[0] for node in graph.node if node.op_type == 'Identity'}
    signs = {node.output[0] for node in graph.node if node.op_type == 'Where'}
    for node in graph.node:
        if node.op_type not in _OUTPUT_AXIS or node.input[0] not in signs:
            continue
        weight = numpy_helper.to_array(tensors[shared.get(node.input[1], node.input[1])])
        axis = _OUTPUT_AXIS[node.op_type]
        sizes = np.moveaxis(np.abs(weight), axis, 0).reshape(weight.shape[axis], -1)
        scale = sizes.mean(1)
        if np.all(np.abs(sizes - scale[:, None]) <= _ALIKE * scale[:, None]):
            yield BinaryNode(node, np.where(weight >= 0, 1, -1).astype(np.int8),
                             scale.astype(np.float32))


def split_binary(graph: onnx.GraphProto) -> None:
    """
    Make weights +-1, stored as int8, and multiply by their scales afterwards.

    Sums are whole numbers then, and exact in float32.
    """
    for layer in list(binary_nodes(graph)):
        name = f'{layer.node.output[0]}_bits'
        _add(graph, name, layer.signs)
        cast = helper.make_node('Cast', [name], [f'{name}_float'], to=onnx.TensorProto.FLOAT)
        _put_before(graph, layer.node, cast)
        _scale_afterwards(graph, layer, f'{name}_float')
    _drop_unused(graph)


def _scale_afterwards(graph: onnx.GraphProto, layer: BinaryNode, weight: str) -> None:
    node, output, bias = layer.node, layer.node.output[0], layer.bias
    shape = (1, -1) if node.op_type == 'Gemm' else (1, -1, 1, 1)
    _add(graph, f'{output}.scale', layer.scale.reshape(shape))
    del node.input[1:]
    node.input.append(weight)
    node.output[0] = f'{output}_sums'
    scaled = output if bias is None else f'{output}_scaled'
    after = [helper.make_node('Mul', [node.output[0], f'{output}.scale'], [scaled])]
    if bias is not None:
        moved = f'{output}.scaled_bias'
        _add(graph, moved, _constant(graph, bias).reshape(shape))
        after.append(helper.make_node('Add', [scaled, moved], [output]))
    place = list(graph.node).index(node) + 1
    for number, extra in enumerate(after):
        graph.node.insert(place + number, extra)


def quantize_binary(graph: onnx.GraphProto) -> None:
    """
    Quantize binary layers: signs with scale 1, weights with their own, all zero points 0.

    Nothing is lost: +-1, and the 0 of borders, are whole numbers.
    """
    _add(graph, 'one_scale', np.float32(1))
    _add(graph, 'zero_point', np.int8(0))
    quantized: dict[str, str] = {}
    for layer in list(binary_nodes(graph)):
        node, name = layer.node, f'{layer.node.output[0]}_bits'
        _add(graph, name, layer.signs)
        _add(graph, f'{name}_scale', layer.scale)
        _add(graph, f'{name}_zero', np.zeros(len(layer.scale), np.int8))
        _put_before(graph, node, helper.make_node(
            'DequantizeLinear', [name, f'{name}_scale', f'{name}_zero'], [f'{name}_float'],
            axis=layer.axis))
        if node.input[0] not in quantized:
            quantized[node.input[0]] = _quantize_signs(graph, node, node.input[0])
        node.input[0] = quantized[node.input[0]]
        node.input[1] = f'{name}_float'
    _drop_unused(graph)


def _quantize_signs(graph: onnx.GraphProto, node: onnx.NodeProto, signs: str) -> str:
    whole, back = f'{signs}_int8', f'{signs}_float'
    _put_before(graph, node, helper.make_node(
        'QuantizeLinear', [signs, 'one_scale', 'zero_point'], [whole]))
    _put_before(graph, node, helper.make_node(
        'DequantizeLinear', [whole, 'one_scale', 'zero_point'], [back]))
    return back


def _add(graph: onnx.GraphProto, name: str, array: np.ndarray) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))


def _constant(graph: onnx.GraphProto, name: str) -> np.ndarray:
    shared = {node.output[0]: node.input[0] for node in graph.node if node.op_type == 'Identity'}
    name = shared.get(name, name)
    return next(numpy_helper.to_array(tensor) for tensor in graph.initializer
                if tensor.name == name)


def _put_before(graph: onnx.GraphProto, node: onnx.NodeProto, extra: onnx.NodeProto) -> None:
    graph.node.insert(list(graph.node).index(node), extra)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove weights that nothing reads any more, and the names that shared them."""
    results = {value.name for value in graph.output}
    used = {name for node in graph.node for name in node.input} | results
    for node in [node for node in graph.node if node.op_type == 'Identity']:
        if node.output[0] not in used:
            graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
