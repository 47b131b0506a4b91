# SPDX-License-Identifier: Apache-2.0
"""Exports the networks of mgil to ONNX and enters pose networks into a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hmr_ros.body.model import BodyModel
from hmr_ros.networks.mgil import PoseNetwork, PoseVariant
from hmr_ros.networks.mgil.deploy import deployable, DetectorEngine, GateMeans
from hmr_ros.networks.mgil.detector import ANCHORS, BOX_NUMBERS, Detector, STRIDES
from hmr_ros.runtime.engine import TensorSpec
from hmr_ros.runtime.manifest import add_entry, file_sha256, ManifestEntry
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.mgil.weights import PoseFacts
from hmr_ros.training.onnx_export import OPSET, write_onnx

Specs = tuple[TensorSpec, ...]


def export_pose(
        network: PoseNetwork, path: str | Path, weights: str = 'float16',
        gates: GateMeans | None = None) -> Path:
    """
    Write the engine `image` to `simcc_x`, `simcc_y`; see `onnx_export.write_onnx`.

    gates  weights to freeze the gates at, see `deploy.gate_means`
    """
    return write_onnx(deployable(network, gates), *pose_tensors(network.variant), path, weights)


def pose_tensors(variant: PoseVariant) -> tuple[Specs, Specs]:
    """Return inputs and outputs of a pose engine (sheet, section 1)."""
    x, y = variant.bins
    return ((TensorSpec('image', (-1, 3, variant.height, variant.width), 'float32'),),
            (TensorSpec('simcc_x', (-1, variant.keypoints, x), 'float32'),
             TensorSpec('simcc_y', (-1, variant.keypoints, y), 'float32')))


def export_detector(
        network: Detector, size: tuple[int, int], path: str | Path,
        weights: str = 'float16', gates: GateMeans | None = None) -> Path:
    """Write the engine `image` to `boxes` and `scores` for pictures of `size` (height, width)."""
    return write_onnx(
        DetectorEngine(network, gates), *detector_tensors(network, size), path, weights)


def detector_tensors(network: Detector, size: tuple[int, int]) -> tuple[Specs, Specs]:
    """Return inputs and outputs of a detector engine."""
    height, width = size
    each = len(ANCHORS[0])
    boxes = sum(each * (height // stride) * (width // stride) for stride in STRIDES)
    classes = network.outputs[0].out_channels // each - BOX_NUMBERS
    return ((TensorSpec('image', (-1, 3, height, width), 'float32'),),
            (TensorSpec('boxes', (-1, boxes, 4), 'float32'),
             TensorSpec('scores', (-1, boxes, classes), 'float32')))


def export_engine(
        network: PoseNetwork, _body: BodyModel | None, folder: str | Path, name: str,
        weights: str = 'float16', facts: PoseFacts = PoseFacts(), training_data: str = '',
        accuracy: dict[str, Any] | None = None) -> ManifestEntry:
    """
    Export a pose network as engine `name` into `folder` and its manifest.

    Keypoints need no body; `facts` say how the weights want to be used. Raises TrainingError for
    crops that are not square, which no engine here takes.
    """
    if network.variant.height != network.variant.width:
        raise TrainingError(
            f'this network takes crops of {network.variant.width}x{network.variant.height} pixels; '
            'only square ones can be engines. Train or import one for square crops')
    path = Path(folder) / f'{name}.onnx'
    export_pose(network, path, weights)
    inputs, outputs = ({spec.name: spec.shape for spec in tensors}
                       for tensors in pose_tensors(network.variant))
    entry = ManifestEntry(
        name, facts.network, path.name, file_sha256(path), OPSET, inputs, outputs,
        network.variant.width, facts.mean, facts.std, facts.licence, weights=weights,
        color_order=facts.color_order, score_mode=facts.score_mode, flip_shift=facts.flip_shift,
        top_score=facts.top_score, training_data=training_data, accuracy=accuracy or {})
    add_entry(Path(folder), entry)
    return entry
