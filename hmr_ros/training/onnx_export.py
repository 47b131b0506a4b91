# SPDX-License-Identifier: Apache-2.0
"""Writes a module to one ONNX file with named tensors, a free batch and small weights."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
from pathlib import Path
from typing import Sequence
import warnings

import numpy as np
import onnx
from onnx import numpy_helper
import torch

from hmr_ros.body.model import SkinnedModel
from hmr_ros.runtime.engine import TensorSpec
from hmr_ros.training.errors import TrainingError

OPSET = 18
#: smaller tensors stay float32, and so do vectors: biases, gains.
STORED_AS_FLOAT16 = 512


def write_onnx(
        module: torch.nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec],
        path: str | Path, weights: str = 'float16', exact: tuple[str, ...] = (),
        rewrite: Callable[[onnx.GraphProto], None] | None = None) -> Path:
    """
    Write `module`, which takes `inputs` and returns `outputs` in that order, to `path`.

    weights  'float32' or 'float16', how the file stores them; the graph computes in float32
    exact    beginnings of the names of tensors that must stay float32
    rewrite  changes the graph in place before its weights are stored

    The axis of size -1 of each tensor is the batch, which stays free.
    """
    path, tensors = Path(path), [*inputs, *outputs]
    examples = tuple(
        torch.zeros(spec.shape_for(2), dtype=getattr(torch, spec.dtype)) for spec in inputs)
    with warnings.catch_warnings():
        # The tracer warns about Python comparisons of shapes, which are static here.
        warnings.simplefilter('ignore')
        torch.onnx.export(
            module, examples, str(path), input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs], dynamo=False, opset_version=OPSET,
            dynamic_axes={spec.name: {spec.shape.index(-1): 'people'} for spec in tensors})
    model = onnx.load(path)
    _share_equal_tensors(model.graph)
    _declare_outputs(model.graph, outputs)
    if rewrite is not None:
        rewrite(model.graph)
    if weights == 'float16':
        _store_float16(model.graph, exact)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def check_body(body_model: str, body: SkinnedModel, known: str = 'open_body') -> None:
    """
    Raise TrainingError when weights for `body_model` would become an engine for `body`.

    known  name of the open body that the network has; weights that know another say only so
    """
    if (body_model == known) != (body.name == known):
        raise TrainingError(
            f'these weights know the body model {body_model!r}, but {body.name!r} was given; '
            'their betas and markers would mean something else')


def _declare_outputs(graph: onnx.GraphProto, outputs: Sequence[TensorSpec]) -> None:
    """Write the sizes that the tracer left open."""
    for output, spec in zip(graph.output, outputs):
        for dimension, size in zip(output.type.tensor_type.shape.dim, spec.shape):
            if size != -1:
                dimension.dim_value = size


def _share_equal_tensors(graph: onnx.GraphProto) -> None:
    """Keep one of each set of equal initializers: some matrices repeat from block to block."""
    first: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    for tensor in list(graph.initializer):
        array = numpy_helper.to_array(tensor)
        key = hashlib.sha256(
            f'{array.dtype}{array.shape}'.encode() + array.tobytes()).digest()
        if key in first:
            renamed[tensor.name] = first[key]
            graph.initializer.remove(tensor)
        else:
            first[key] = tensor.name
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def _store_float16(graph: onnx.GraphProto, exact: tuple[str, ...]) -> None:
    """Store learned weights as float16 behind a Cast, which a runtime folds away when it loads."""
    casts = []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        kept = tensor.name.rpartition('.')[2].startswith(exact)
        small = array.size < STORED_AS_FLOAT16 or array.ndim < 2
        if array.dtype != np.float32 or small or kept:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name + '_float16'))
        casts.append(onnx.helper.make_node(
            'Cast', [name + '_float16'], [name], to=onnx.TensorProto.FLOAT))
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
