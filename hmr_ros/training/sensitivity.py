# SPDX-License-Identifier: Apache-2.0
"""What int8 costs a network, layer by layer, and which layers had better stay in float."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import TensorsData

from hmr_ros.evaluation.metrics import aligned_errors
from hmr_ros.runtime.onnx_engine import open_session
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.quantization import quantizable, quantized, Target

#: inputs to outputs by name, as an engine runs them.
Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def runner(content: bytes, path: Path, threads: int) -> Run:
    """Return what runs the ONNX file `content` by onnxruntime; `path` is for messages."""
    session = open_session(content, path, threads)
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds))))


@dataclass(frozen=True)
class Loss:
    """
    What a network loses to its float original, in mm, after the best similarity.

    moved_mm   mean distance of its joints from those of the original: small losses show, too
    change_mm  how much more PA-MPJPE it has
    spread_mm  standard error of `change_mm` over the people
    """

    moved_mm: float
    change_mm: float
    spread_mm: float


class Judge:
    """Compares networks with their float original on the same people."""

    def __init__(
            self, joints: Callable[[Run], np.ndarray], true: np.ndarray, original: Run) -> None:
        """Take what reads joints `(N, K, 3)` off a network, the true ones, metres, and it."""
        self._joints, self._true = joints, true
        self._original = joints(original)
        self._errors = aligned_errors(self._original, true).mean(axis=1)

    def loss(self, run: Run) -> Loss:
        """Return what `run` loses."""
        joints = self._joints(run)
        change = aligned_errors(joints, self._true).mean(axis=1) - self._errors
        return Loss(
            float(1000 * aligned_errors(joints, self._original).mean()),
            float(1000 * change.mean()), float(1000 * change.std() / np.sqrt(len(change))))


@dataclass(frozen=True)
class LayerLoss:
    """A layer, its operator, and what the network loses when that layer alone is in int8."""

    layer: str
    operator: str
    loss: Loss


@dataclass(frozen=True)
class Candidate:
    """A network to be quantized: float model, for whom, ranges of its activations, its judge."""

    model: onnx.ModelProto
    target: Target
    ranges: TensorsData
    judge: Judge
    path: Path
    threads: int = 1

    def loss(self, layers: Sequence[str]) -> Loss:
        """Return what the network loses with `layers` in int8."""
        content = quantized(self.model, self.target, self.ranges, layers)
        return self.judge.loss(runner(content, self.path, self.threads))


def layer_losses(candidate: Candidate) -> Iterator[LayerLoss]:
    """Quantize each layer alone, in the order of the network."""
    operators = {node.name: node.op_type for node in candidate.model.graph.node}
    for layer in quantizable(candidate.model, candidate.target):
        yield LayerLoss(layer, operators[layer], candidate.loss([layer]))


@dataclass(frozen=True)
class Choice:
    """Layers in int8, those left in float, the worst first, and what the whole then loses."""

    int8: tuple[str, ...]
    kept: tuple[str, ...]
    loss: Loss


def choose_layers(
        candidate: Candidate, losses: Sequence[LayerLoss], budget_mm: float) -> Choice:
    """
    Leave layers in float, the worst first, until the whole keeps to `budget_mm` of PA-MPJPE.

    Its loss with one standard error on top counts. Raises TrainingError when no layer is left.
    """
    worst = [one.layer for one in sorted(losses, key=lambda one: -one.loss.moved_mm)]
    for count in range(len(worst)):
        kept = worst[:count]
        int8 = tuple(one.layer for one in losses if one.layer not in kept)
        loss = candidate.loss(int8)
        if loss.change_mm + loss.spread_mm <= budget_mm:
            return Choice(int8, tuple(kept), loss)
    raise TrainingError(
        f'no layer of {candidate.path} can be int8 within {budget_mm:g} mm of PA-MPJPE; allow '
        'more, calibrate on more people, or keep the float engine')
