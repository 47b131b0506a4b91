# SPDX-License-Identifier: Apache-2.0
"""Exports rsc_net and rsc_temporal to ONNX and enters the files into a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

from hmr_ros.body.model import BodyModel
from hmr_ros.networks.rsc_net import BodyFilter, RscNet, RscTemporal
from hmr_ros.networks.rsc_net.body_filter import ROWS
from hmr_ros.networks.rsc_net.deploy import (
    FilterStep, RowEngine, SingleRowEngine, TemporalStep, texture_engine)
from hmr_ros.networks.rsc_net.prediction import BETAS_WIDTH, CAMERA_WIDTH, POSE_WIDTH
from hmr_ros.networks.rsc_net.temporal import LAYERS
from hmr_ros.networks.rsc_net.texture import IMAGE_SIZE, RscTexture, TEXTURE_SIZE
from hmr_ros.runtime.engine import TensorSpec
from hmr_ros.runtime.manifest import add_entry, file_sha256, ManifestEntry
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.onnx_export import check_body, OPSET, write_onnx
from hmr_ros.training.rsc_net.weights import AnyNetwork, FILTER, RscFacts

Specs = tuple[TensorSpec, ...]
_ROW = TensorSpec('row', (-1,), 'int32')
_BODY = (TensorSpec('pose6d', (-1, POSE_WIDTH), 'float32'),
         TensorSpec('betas', (-1, BETAS_WIDTH), 'float32'),
         TensorSpec('cam', (-1, CAMERA_WIDTH), 'float32'))


def export_rsc_net(network: RscNet, path: str | Path, weights: str = 'float16') -> Path:
    """Write the engine of all rows, inputs `image` and `row`; see `onnx_export.write_onnx`."""
    return write_onnx(RowEngine(network), *tensors_of(network), path, weights)


def export_single_row(
        network: RscNet, row: int, path: str | Path, weights: str = 'float16') -> Path:
    """Write the engine of one row, input `image`, alpha inside its convolutions."""
    (image, _), outputs = tensors_of(network)
    return write_onnx(SingleRowEngine(network, row), (image,), outputs, path, weights)


def export_rsc_temporal(network: RscTemporal, path: str | Path, weights: str = 'float16') -> Path:
    """Write one step of the GRU, inputs `feature` and `h_in`."""
    return write_onnx(TemporalStep(network), *tensors_of(network), path, weights)


def export_body_filter(network: BodyFilter, path: str | Path, weights: str = 'float16') -> Path:
    """Write one step of the filter, inputs `feature`, `pose6d_in`, `betas_in` and `h_in`."""
    return write_onnx(FilterStep(network), *tensors_of(network), path, weights)


def export_rsc_texture(network: RscTexture, path: str | Path, weights: str = 'float16') -> Path:
    """Write the texture network, `image` to `uv`, both -1 to 1 (sheet 1.1)."""
    image = TensorSpec('image', (-1, 3, *IMAGE_SIZE), 'float32')
    texture = TensorSpec('uv', (-1, 3, TEXTURE_SIZE, TEXTURE_SIZE), 'float32')
    return write_onnx(texture_engine(network), (image,), (texture,), path, weights)


def tensors_of(network: AnyNetwork) -> tuple[Specs, Specs]:
    """Return the engine's inputs and outputs (sheet 1.1)."""
    feature = TensorSpec('feature', (-1, network.features), 'float32')
    if isinstance(network, RscNet):
        image = TensorSpec('image', (-1, 3, network.image_size, network.image_size), 'float32')
        return (image, _ROW), (*_BODY, feature)
    rows = ROWS if isinstance(network, BodyFilter) else LAYERS
    h_in, h_out = (
        TensorSpec(name, (rows, -1, network.hidden), 'float32') for name in ('h_in', 'h_out'))
    if isinstance(network, BodyFilter):
        seen = tuple(replace(spec, name=f'{spec.name}_in') for spec in _BODY[:2])
        return (feature, *seen, h_in), (*_BODY[:2], h_out)
    return (feature, h_in), (*_BODY, h_out)


def export_engine(
        network: AnyNetwork, body: BodyModel, folder: str | Path, name: str,
        weights: str = 'float16', facts: RscFacts = RscFacts(), training_data: str = '',
        accuracy: dict[str, Any] | None = None) -> ManifestEntry:
    """
    Export `network` as engine `name` into `folder` and its manifest.

    `facts` say how its weights want to be used; raises TrainingError when they belong to another
    body than `body`, or to a regressor with other activations.
    """
    _check_facts(network, body, facts)
    path = Path(folder) / f'{name}.onnx'
    if isinstance(network, RscNet):
        export_rsc_net(network, path, weights)
        size, mean, std = network.image_size, facts.mean, facts.std
    else:
        write = export_body_filter if facts.network == FILTER else export_rsc_temporal
        write(network, path, weights)
        size, mean, std = 0, (), ()
    inputs, outputs = tensors_of(network)
    entry = ManifestEntry(
        name, facts.network, path.name, file_sha256(path), OPSET, _shapes(inputs),
        _shapes(outputs), size, mean, std, facts.licence, weights=weights, body_model=body.name,
        body_model_sha256=body.sha256, features_of=facts.features_of, dtypes=_dtypes(inputs),
        regressor_relu=None if facts.network == FILTER else facts.regressor_relu,
        training_data=training_data, accuracy=accuracy or {})
    add_entry(Path(folder), entry)
    return entry


def _check_facts(network: AnyNetwork, body: BodyModel, facts: RscFacts) -> None:
    check_body(facts.body_model, body)
    if facts.network != FILTER and network.regressor_relu != facts.regressor_relu:
        raise TrainingError(
            f'the facts of these weights say regressor_relu {facts.regressor_relu}, the network '
            f'has {network.regressor_relu}; build it from the facts')


def _shapes(tensors: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    return {spec.name: spec.shape for spec in tensors}


def _dtypes(tensors: Sequence[TensorSpec]) -> dict[str, str]:
    return {spec.name: spec.dtype for spec in tensors if spec.dtype != 'float32'}
