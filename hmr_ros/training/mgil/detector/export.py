# SPDX-License-Identifier: Apache-2.0
"""Exports the person detector to ONNX and enters it into a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hmr_ros.body.model import BodyModel
from hmr_ros.networks.mgil.detector import Detector
from hmr_ros.runtime.manifest import add_entry, file_sha256, ManifestEntry
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.mgil.detector.weights import DetectorFacts
from hmr_ros.training.mgil.export import detector_tensors, export_detector
from hmr_ros.training.onnx_export import OPSET


def export_engine(
        network: Detector, _body: BodyModel | None, folder: str | Path, name: str,
        weights: str = 'float16', facts: DetectorFacts = DetectorFacts(), training_data: str = '',
        accuracy: dict[str, Any] | None = None) -> ManifestEntry:
    """
    Export a detector as engine `name` into `folder` and its manifest.

    Detectors need no body; `facts` say how large the pictures of the engine are. Its input `image`
    is RGB from 0 to 1, its outputs are `boxes` in pixels of that picture and `scores`, with all
    boxes of one person. Raises TrainingError for a size that the network cannot halve five times.
    """
    if facts.height % 32 or facts.width % 32 or min(facts.height, facts.width) < 32:
        raise TrainingError(f'pictures of {facts.width}x{facts.height} pixels; width and height '
                            'of a detector must be multiples of 32')
    size, path = (facts.height, facts.width), Path(folder) / f'{name}.onnx'
    export_detector(network, size, path, weights)
    inputs, outputs = ({spec.name: spec.shape for spec in tensors}
                       for tensors in detector_tensors(network, size))
    entry = ManifestEntry(
        name, facts.network, path.name, file_sha256(path), OPSET, inputs, outputs, facts.width,
        (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), facts.licence, weights=weights,
        training_data=training_data, accuracy=accuracy or {})
    add_entry(Path(folder), entry)
    return entry
