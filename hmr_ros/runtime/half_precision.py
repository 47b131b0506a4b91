# SPDX-License-Identifier: Apache-2.0
"""
Makes the ONNX graph say in which precision it computes, which is what TensorRT obeys.

All networks are built strongly typed (TensorRT 11 knows nothing else), so the precision of an
engine is that of its graph. fp16 is done by onnxruntime's own converter: `onnxruntime.transformers`
is released with every onnxruntime and needs nothing but onnx beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hmr_ros.runtime.engine import EngineError

#: what `precision` may be for an engine that is built.
BUILT_PRECISIONS = ('fp32', 'fp16', 'int8')
#: sums of squares and exponentials leave the range of float16; these keep float32.
_KEPT_IN_FP32 = (
    'InstanceNormalization', 'LayerNormalization', 'Pow', 'ReduceL2', 'ReduceSum', 'Softmax')


def parse_network(content: bytes, path: Path) -> Any:
    """
    Return the ONNX model of a file's `content`.

    Raises EngineError when it is not ONNX, or the onnx package is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise EngineError(
            'onnx is not installed, and building an engine or running it by torch needs it; '
            '`pip install onnx onnxruntime`') from error
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf has several, by implementation
        raise EngineError(f'{path} is not an ONNX model: {error}; export it again with '
                          '`hmr export`') from error


def typed_network(content: bytes, precision: str, path: Path) -> bytes:
    """
    Return the ONNX file that computes in `precision`; inputs and outputs stay as they are.

    Raises EngineError when it is not ONNX, it is quantized otherwise than TensorRT takes it, or
    the onnx package is missing.
    """
    model = parse_network(content, path)
    _fold_weights(model)
    if precision == 'fp16':
        model = _in_half_precision(model)
    if precision == 'int8':
        _check_symmetric(model, path)
    return model.SerializeToString()


def _fold_weights(model: Any) -> None:
    """Replace each Cast of a stored weight by its result: kernels must be constants."""
    import onnx
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == 'Cast']:
        if node.input[0] not in tensors:
            continue
        target, = (attribute.i for attribute in node.attribute if attribute.name == 'to')
        array = onnx.numpy_helper.to_array(tensors[node.input[0]]).astype(
            onnx.helper.tensor_dtype_to_np_dtype(target))
        tensors[node.output[0]] = onnx.numpy_helper.from_array(array, node.output[0])
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for name, tensor in tensors.items() if name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _check_symmetric(model: Any, path: Path) -> None:
    """Raise EngineError unless all zero points are int8 and 0: TensorRT has no others."""
    import onnx
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node
             if node.op_type in ('QuantizeLinear', 'DequantizeLinear')]
    for tensor in (tensors[name] for node in nodes for name in node.input[2:3] if name in tensors):
        points = onnx.numpy_helper.to_array(tensor)
        if points.dtype.name != 'int8' or points.any():
            raise EngineError(
                f'{path} is quantized with the {points.dtype.name} zero point '
                f'{points.flat[0]} ({tensor.name}), and TensorRT takes int8 with zero points 0 '
                'only: this is a file for processors; make one with `hmr quantize --target both`')


def _in_half_precision(model: Any) -> Any:
    try:
        from onnxruntime.transformers.float16 import (
            convert_float_to_float16, DEFAULT_OP_BLOCK_LIST)
        from onnxruntime.transformers.onnx_model import OnnxModel
    except ImportError as error:
        raise EngineError(
            f'onnxruntime cannot be imported ({error}), and its converter makes fp16 of a '
            'network; `pip install onnxruntime`, or build with --precision fp32') from error
    kept = [*DEFAULT_OP_BLOCK_LIST, *_KEPT_IN_FP32]
    model = convert_float_to_float16(model, keep_io_types=True, op_block_list=kept)
    # The converter puts its casts of the inputs last.
    OnnxModel.graph_topological_sort(model.graph)
    return model
