# SPDX-License-Identifier: Apache-2.0
"""Exports the whole-body network to one ONNX graph and enters it into a manifest (sheet, 7)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hmr_ros.body.whole_body import OPEN_WHOLE_BODY, WholeBodyModel
from hmr_ros.networks.bidrn import WholeBody
from hmr_ros.networks.bidrn.binarization import BINARY_LAYERS
from hmr_ros.networks.bidrn.layout import Plan
from hmr_ros.runtime.engine import TensorSpec
from hmr_ros.runtime.manifest import add_entry, file_sha256, ManifestEntry
from hmr_ros.runtime.packed_file import OUTPUTS
from hmr_ros.training.bidrn.binary_graph import quantize_binary, split_binary
from hmr_ros.training.bidrn.weights import WholeBodyFacts
from hmr_ros.training.onnx_export import check_body, OPSET, write_onnx

#: beginnings of the names of tensors that are float32 in any file: scales behind sums.
EXACT = ('scale',)
#: how the file says its weights, and what is done to binary layers for it.
STORED = {'float32': split_binary, 'float16': split_binary, 'int8': quantize_binary}


def deployable(network: nn.Module) -> nn.Module:
    """Copy a network in evaluation mode with its binary weights in the place of latent ones."""
    network = copy.deepcopy(network).eval().to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, BINARY_LAYERS):
                layer.weight = nn.Parameter(layer.binary().contiguous())
    return network


def export_network(network: WholeBody, path: str | Path, weights: str = 'float16') -> Path:
    """
    Write the engine `image` to the fields of `WholePerson`.

    weights  float32 or float16: +-1 and their scales apart, computed in floats; int8: quantized
             binary layers, the rest stored as float16
    """
    return write_onnx(
        deployable(network), *whole_body_tensors(network.variant.sizes), path,
        'float16' if weights == 'int8' else weights, EXACT, STORED[weights])


def whole_body_tensors(plan: Plan) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return inputs and outputs of an engine; sizes are those of `WholePerson`."""
    return ((TensorSpec('image', (-1, 3, *plan.image), 'float32'),),
            tuple(TensorSpec(name, (-1, *shape), 'float32') for name, shape in OUTPUTS.items()))


def export_engine(
        network: WholeBody, body: WholeBodyModel, folder: str | Path, name: str,
        weights: str = 'float16', facts: WholeBodyFacts = WholeBodyFacts(),
        training_data: str = '', accuracy: dict[str, Any] | None = None) -> ManifestEntry:
    """
    Export as engine `name` into `folder` and its manifest; see `export_network`.

    Raises TrainingError when the weights are for another body than `body`.
    """
    check_body(facts.body_model, body, OPEN_WHOLE_BODY.stem)
    path, plan = Path(folder) / f'{name}.onnx', network.variant.sizes
    export_network(network, path, weights)
    inputs, outputs = ({spec.name: spec.shape for spec in tensors}
                       for tensors in whole_body_tensors(plan))
    entry = ManifestEntry(
        name, facts.network, path.name, file_sha256(path), OPSET, inputs, outputs, plan.image[0],
        (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), facts.licence, weights=weights, body_model=body.name,
        body_model_sha256=body.sha256, training_data=training_data, accuracy=accuracy or {})
    add_entry(Path(folder), entry)
    return entry
