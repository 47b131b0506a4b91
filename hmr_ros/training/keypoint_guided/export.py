# SPDX-License-Identifier: Apache-2.0
"""Exports keypoint_guided to ONNX and enters the file into a manifest; `hmr export`."""

from __future__ import annotations

import hashlib
from pathlib import Path
import warnings

import numpy as np
import onnx
from onnx import numpy_helper
import torch

from hmr_ros.body.model import BodyModel
from hmr_ros.networks.keypoint_guided import AnyNetwork, input_shapes, output_shapes
from hmr_ros.networks.keypoint_guided.deploy import deployable
from hmr_ros.networks.keypoint_guided.prediction import Prediction
from hmr_ros.runtime.manifest import add_entry, file_sha256, ManifestEntry
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.keypoint_guided.weights import WeightsFacts

OPSET = 18
#: smaller tensors stay float32: biases, gains, and the exact DFT matrices.
STORED_AS_FLOAT16 = 512


def export_onnx(network: AnyNetwork, path: str | Path, weights: str = 'float16') -> Path:
    """
    Write the network to `path`; `weights` 'float32' or 'float16' is how the file stores them.

    The graph computes in float32 either way; the batch is dynamic.
    """
    path, inputs, outputs = Path(path), input_shapes(network), output_shapes(network)
    tensors, size = [*inputs, *outputs], network.image_size
    with warnings.catch_warnings():
        # The tracer warns about Python comparisons of shapes, which are static here.
        warnings.simplefilter('ignore')
        torch.onnx.export(
            deployable(network), torch.zeros(2, 3, size, size), str(path),
            input_names=list(inputs), output_names=list(Prediction._fields), dynamo=False,
            opset_version=OPSET, dynamic_axes={name: {0: 'people'} for name in tensors})
    model = onnx.load(path)
    _share_equal_tensors(model.graph)
    _declare_outputs(model.graph, outputs)
    if weights == 'float16':
        _store_float16(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _declare_outputs(graph: onnx.GraphProto, outputs: dict[str, tuple[int, ...]]) -> None:
    """Write the sizes that the tracer left open."""
    for output in graph.output:
        shape = output.type.tensor_type.shape
        for dimension, size in zip(shape.dim[1:], outputs[output.name][1:]):
            dimension.dim_value = size


def _share_equal_tensors(graph: onnx.GraphProto) -> None:
    """Keep one of each set of equal initializers: the DFT matrices repeat from block to block."""
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


def _store_float16(graph: onnx.GraphProto) -> None:
    """Store learned weights as float16 behind a Cast, which a runtime folds away when it loads."""
    casts = []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        exact = tensor.name.rpartition('.')[2].startswith(('forward_', 'inverse_'))
        if array.dtype != np.float32 or array.size < STORED_AS_FLOAT16 or exact:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name + '_float16'))
        casts.append(onnx.helper.make_node(
            'Cast', [name + '_float16'], [name], to=onnx.TensorProto.FLOAT))
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)


def export_engine(
        network: AnyNetwork, body: BodyModel, folder: str | Path, name: str,
        weights: str = 'float16', facts: WeightsFacts = WeightsFacts(), training_data: str = '',
        accuracy: dict[str, float] | None = None) -> ManifestEntry:
    """
    Export `network` as engine `name` into `folder` and its manifest.

    `facts` say how its weights want to be used; raises TrainingError when they belong to another
    body than `body`.
    """
    if (facts.body_model == 'open_body') != (body.name == 'open_body'):
        raise TrainingError(
            f'these weights know the body model {facts.body_model!r}, but {body.name!r} was given; '
            'their betas and markers would mean something else')
    folder = Path(folder)
    path = export_onnx(network, folder / f'{name}.onnx', weights)
    entry = ManifestEntry(
        name, 'keypoint_guided', path.name, file_sha256(path), OPSET,
        input_shapes(network), output_shapes(network), network.image_size, facts.mean, facts.std,
        facts.licence, facts.projection, weights, keypoints_digest(body), body.name, body.sha256, training_data,
        accuracy or {})
    add_entry(folder, entry)
    return entry


def keypoints_digest(body: BodyModel) -> str:
    """Digest of the leaf and marker vertices a network was trained on (sheet 1.6)."""
    vertices = np.concatenate([body.leaf_vertices, body.marker_vertices]).astype('<i4')
    return hashlib.sha256(vertices.tobytes()).hexdigest()
