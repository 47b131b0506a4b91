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
class Measure:
    """
    How far points of N people are from others.

    name, unit  for reports
    budget      what int8 may cost, in that unit
    errors      points and others `(N, K, D)` to a number for each person `(N,)`
    """

    name: str
    unit: str
    budget: float
    errors: Callable[[np.ndarray, np.ndarray], np.ndarray]


#: of joints in 3D, after the best similarity.
BODIES = Measure(
    'pa_mpjpe', 'mm', 1.0, lambda found, true: 1000 * aligned_errors(found, true).mean(axis=1))


@dataclass(frozen=True)
class Loss:
    """
    What a network loses to its float original, in the unit of a Measure.

    moved   how far its points are from those of the original: small losses show, too
    change  how much farther it is from the truth
    spread  standard error of `change` over the people
    """

    moved: float
    change: float
    spread: float

    def row(self, unit: str) -> dict[str, float]:
        """Return the numbers as a report names them."""
        return {f'{name}_{unit}': value for name, value in vars(self).items()}


class Judge:
    """Compares networks with their float original on the same people."""

    def __init__(
            self, points: Callable[[Run], np.ndarray], true: np.ndarray, original: Run,
            measure: Measure = BODIES) -> None:
        """Take what reads points `(N, K, D)` off a network, the true ones, and it."""
        self.measure = measure
        self._points, self._true = points, true
        self._original = points(original)
        self._errors = measure.errors(self._original, true)

    def loss(self, run: Run) -> Loss:
        """Return what `run` loses."""
        points = self._points(run)
        change = self.measure.errors(points, self._true) - self._errors
        return Loss(
            float(self.measure.errors(points, self._original).mean()), float(change.mean()),
            float(change.std() / np.sqrt(len(change))))


@dataclass(frozen=True)
class LayerLoss:
    """A layer, its operator, and what the network loses when that layer alone is in int8."""

    layer: str
    operator: str
    loss: Loss


@dataclass(frozen=True)
class Candidate:
    """
    A network to be quantized: float model, for whom, ranges of its activations, its judge.

    float_parts  layers with one of these in their names stay in float
    """

    model: onnx.ModelProto
    target: Target
    ranges: TensorsData
    judge: Judge
    path: Path
    threads: int = 1
    float_parts: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that may be int8, in order."""
        return tuple(name for name in quantizable(self.model, self.target)
                     if not any(part in name for part in self.float_parts))

    def loss(self, layers: Sequence[str]) -> Loss:
        """Return what the network loses with `layers` in int8."""
        content = quantized(self.model, self.target, self.ranges, layers)
        return self.judge.loss(runner(content, self.path, self.threads))


def layer_losses(candidate: Candidate) -> Iterator[LayerLoss]:
    """Quantize each layer alone, in the order of the network."""
    operators = {node.name: node.op_type for node in candidate.model.graph.node}
    for layer in candidate.layers:
        yield LayerLoss(layer, operators[layer], candidate.loss([layer]))


@dataclass(frozen=True)
class Choice:
    """Layers in int8, those left in float, the worst first, and what the whole then loses."""

    int8: tuple[str, ...]
    kept: tuple[str, ...]
    loss: Loss


def choose_layers(
        candidate: Candidate, losses: Sequence[LayerLoss], budget: float) -> Choice:
    """
    Leave layers in float, the worst first, until the whole keeps to `budget`.

    Its loss with one standard error on top counts. Raises TrainingError when no layer is left.
    """
    worst = [one.layer for one in sorted(losses, key=lambda one: -one.loss.moved)]
    for count in range(len(worst)):
        kept = worst[:count]
        int8 = tuple(one.layer for one in losses if one.layer not in kept)
        loss = candidate.loss(int8)
        if loss.change + loss.spread <= budget:
            return Choice(int8, tuple(kept), loss)
    measure = candidate.judge.measure
    raise TrainingError(
        f'no layer of {candidate.path} can be int8 within {budget:g} {measure.unit} of '
        f'{measure.name}; allow '
        'more, calibrate on more people, or keep the float engine')
