# SPDX-License-Identifier: Apache-2.0
"""Exports the networks of mgil to ONNX."""

from __future__ import annotations

from pathlib import Path

from hmr_ros.networks.mgil import PoseNetwork, PoseVariant
from hmr_ros.networks.mgil.deploy import deployable, DetectorEngine, GateMeans
from hmr_ros.networks.mgil.detector import ANCHORS, BOX_NUMBERS, Detector, STRIDES
from hmr_ros.runtime.engine import TensorSpec
from hmr_ros.training.onnx_export import write_onnx

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
