# SPDX-License-Identifier: Apache-2.0
"""Exports the digitizer's networks to seven engines of convolutions alone (sheet, section 9)."""

from __future__ import annotations

from collections.abc import Iterator
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from hmr_ros.networks.digitizer_2k2k import Digitizer, Variant
from hmr_ros.networks.folding import fold_norms
from hmr_ros.perception.digitizer.frame import LOW
from hmr_ros.perception.digitizer.networks import refined_side
from hmr_ros.perception.digitizer.parts import PARTS, PATCHES, patch_size
from hmr_ros.runtime.engine import TensorSpec
from hmr_ros.runtime.half_precision import EXACT_NODE
from hmr_ros.runtime.manifest import add_entry, file_sha256, ManifestEntry
from hmr_ros.training.digitizer_2k2k.weights import DigitizerFacts
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.onnx_export import OPSET, write_onnx

_SYSTEM = 'digitizer_2k2k'
#: of the image, values 0 to 1.
_HALF = (0.5, 0.5, 0.5)
_DEPTH = 'depth'


class LowEngine(nn.Module):
    """Both networks that see the small image."""

    def __init__(self, network: Digitizer) -> None:
        super().__init__()
        self.normals, self.depth = network.low_normals, network.low_depth

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See Digitizer.low."""
        normals = self.normals(image)
        return normals, self.depth(image, normals)


@dataclass(frozen=True)
class Graph:
    """
    One engine.

    part             last part of its name
    module           what it computes
    inputs, outputs  its tensors
    batch            items of every call
    mean             of the image, () when it has none
    """

    part: str
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: int
    mean: tuple[float, ...] = ()


def graphs_of(network: Digitizer) -> Iterator[Graph]:
    """Yield the seven engines of networks, whose norms are folded; these stay as they are."""
    side = network.variant.resolution
    network = copy.deepcopy(network).cpu().eval()
    fold_norms(network)
    # The exporter puts a wrapper's own mode on what it wraps.
    yield Graph('low', LowEngine(network).eval(), *_low_tensors(side), 1, _HALF)
    for name in PATCHES:
        size = patch_size(name, side)
        yield Graph(name, network.parts[name], (_spec('patch', 6, *size),),
                    (_spec('normals', 6, *size),), sum(part.patch == name for part in PARTS))
    yield Graph('refine', network.high_depth, *_refine_tensors(network.variant), 1)


def _spec(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, (-1, *shape), 'float32')


def _low_tensors(side: int) -> tuple[tuple[TensorSpec, ...], ...]:
    low = (side // LOW,) * 2
    return (_spec('image', 3, *low),), (_spec('normals', 6, *low), _spec(_DEPTH, 3, *low))


def _refine_tensors(variant: Variant) -> tuple[tuple[TensorSpec, ...], ...]:
    side = refined_side(variant.resolution)
    low = (side // LOW,) * 2
    return ((_spec('pair', 2, *low), _spec('normals', 6, side, side)),
            (_spec(_DEPTH, 3, side, side),))


def export_engines(
        network: Digitizer, folder: str | Path, name: str = _SYSTEM, weights: str = 'float16',
        facts: DigitizerFacts = DigitizerFacts(), training_data: str = '',
        accuracy: dict[str, Any] | None = None) -> list[ManifestEntry]:
    """
    Export all networks as engines `name`_low, `name`_head and so on into a folder's manifest.

    weights  as for `write_onnx`; what turns the last map into depth stays float32

    Raises TrainingError for weights whose second phase is missing.
    """
    if facts.phase < 2:
        raise TrainingError(
            'these weights are of phase 1: that of high-resolution depth was never trained. Train '
            'or import phase 2, then export')
    entries = []
    for graph in graphs_of(network):
        path = Path(folder) / f'{name}_{graph.part}.onnx'
        write_graph(graph, path, weights)
        entries.append(ManifestEntry(
            path.stem, _SYSTEM, path.name, file_sha256(path), OPSET,
            *({spec.name: spec.shape for spec in tensors}
              for tensors in (graph.inputs, graph.outputs)),
            network.variant.resolution, graph.mean, graph.mean, facts.licence, weights=weights,
            max_batch=graph.batch, training_data=training_data, accuracy=accuracy or {}))
        add_entry(Path(folder), entries[-1])
    return entries


def write_graph(graph: Graph, path: str | Path, weights: str = 'float16') -> Path:
    """Write one engine; see `write_onnx`."""
    return write_onnx(
        graph.module, graph.inputs, graph.outputs, path, weights, rewrite=_mark_exact)


def _mark_exact(graph: onnx.GraphProto) -> None:
    """
    Name the nodes between the last convolution and depth so that fp16 leaves them alone.

    Depth of 2 to 4 has steps of 1.15 mm in float16.
    """
    makers = {name: node for node in graph.node for name in node.output}
    waiting = [_DEPTH] if any(output.name == _DEPTH for output in graph.output) else []
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.name.startswith(EXACT_NODE):
            continue
        node.name = EXACT_NODE + node.name
        if node.op_type != 'Conv':
            waiting.extend(node.input)
