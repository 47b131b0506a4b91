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
from hmr_ros.runtime.manifest import ManifestEntry

#: what `precision` may be for an engine that is built.
BUILT_PRECISIONS = ('fp32', 'fp16', 'int8')
#: sums of squares and exponentials leave the range of float16; these keep float32.
_KEPT_IN_FP32 = (
    'InstanceNormalization', 'LayerNormalization', 'Pow', 'ReduceL2', 'ReduceSum', 'Softmax')
#: beginning of the names of nodes that keep float32, too: who exports a network knows which.
EXACT_NODE = 'exact_float32'
#: an output that fp16 is too coarse for.
_DEPTH = 'depth'


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


def degradation(content: bytes, entry: ManifestEntry | None, precision: str) -> str:
    """
    Say what fp16 does to the file `content` beyond rounding, to be added to a reason; or ''.

    That is a file of depth which does not say which nodes keep float32.
    """
    # As a node's name stands in the file; no parser is needed to see it.
    if precision != 'fp16' or entry is None or _DEPTH not in entry.outputs or (
            EXACT_NODE.encode() in content):
        return ''
    return ('; degraded: all of the file is computed in fp16, which rounds depth to steps of about '
            'a millimetre. Export it again, or use precision fp32')


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
    exact = [node.name for node in model.graph.node if node.name.startswith(EXACT_NODE)]
    model = convert_float_to_float16(
        model, keep_io_types=True, op_block_list=kept, node_block_list=exact)
    # The converter puts its casts of the inputs last.
    OnnxModel.graph_topological_sort(model.graph)
    _join_exact(model.graph)
    return model


def _join_exact(graph: Any) -> None:
    """
    Let what exact nodes give reach exact nodes and outputs as float32.

    The converter puts a cast to float16 behind each of them, and another back.
    """
    makers = {name: node for node in graph.node for name in node.output}
    outputs = {output.name for output in graph.output}
    for node in [node for node in graph.node if node.op_type == 'Cast']:
        half = makers.get(node.input[0])
        if half is None or half.op_type != 'Cast':
            continue
        maker = makers.get(half.input[0])
        if maker is None or not maker.name.startswith(EXACT_NODE):
            continue
        kept, dropped = half.input[0], node.output[0]
        if dropped in outputs:
            kept, dropped = dropped, kept
            makers[kept] = makers[dropped]
        graph.node.remove(node)
        _rename(graph, dropped, kept)
    used = outputs | {name for node in graph.node for name in node.input}
    for node in [node for node in graph.node if not used & set(node.output)]:
        graph.node.remove(node)


def _rename(graph: Any, name: str, to: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [to if value == name else value for value in names]
