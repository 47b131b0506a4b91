# SPDX-License-Identifier: Apache-2.0
"""Exports keypoint_guided to ONNX and enters the file into a manifest; `hmr export`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from hmr_ros.body.model import BodyModel
from hmr_ros.networks.keypoint_guided import AnyNetwork, input_shapes, output_shapes
from hmr_ros.networks.keypoint_guided.deploy import deployable
from hmr_ros.runtime.manifest import add_entry, file_sha256, ManifestEntry, specs
from hmr_ros.training.keypoint_guided.weights import WeightsFacts
from hmr_ros.training.onnx_export import check_body, OPSET, write_onnx

#: matrices of the DFT, which float16 would spoil.
_EXACT = ('forward_', 'inverse_')


def export_onnx(network: AnyNetwork, path: str | Path, weights: str = 'float16') -> Path:
    """
    Write the network to `path`; `weights` 'float32' or 'float16' is how the file stores them.

    The graph computes in float32 either way; the batch is dynamic.
    """
    return write_onnx(
        deployable(network), specs(input_shapes(network)), specs(output_shapes(network)), path,
        weights, _EXACT)


def export_engine(
        network: AnyNetwork, body: BodyModel, folder: str | Path, name: str,
        weights: str = 'float16', facts: WeightsFacts = WeightsFacts(), training_data: str = '',
        accuracy: dict[str, float] | None = None) -> ManifestEntry:
    """
    Export `network` as engine `name` into `folder` and its manifest.

    `facts` say how its weights want to be used; raises TrainingError when they belong to another
    body than `body`.
    """
    check_body(facts.body_model, body)
    folder = Path(folder)
    path = export_onnx(network, folder / f'{name}.onnx', weights)
    entry = ManifestEntry(
        name, 'keypoint_guided', path.name, file_sha256(path), OPSET,
        input_shapes(network), output_shapes(network), network.image_size, facts.mean, facts.std,
        facts.licence, facts.projection, weights, keypoints_digest(body), body.name, body.sha256,
        training_data=training_data, accuracy=accuracy or {})
    add_entry(folder, entry)
    return entry


def keypoints_digest(body: BodyModel) -> str:
    """Digest of the leaf and marker vertices a network was trained on (sheet 1.6)."""
    vertices = np.concatenate([body.leaf_vertices, body.marker_vertices]).astype('<i4')
    return hashlib.sha256(vertices.tobytes()).hexdigest()
