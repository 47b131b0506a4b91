# SPDX-License-Identifier: Apache-2.0
"""Makes int8 of a network: explicit QuantizeLinear and DequantizeLinear nodes in its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
import io
from pathlib import Path
import tempfile

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader, CalibrationMethod, create_calibrator, QDQQuantizer, quant_pre_process,
    QuantType)
from onnxruntime.quantization.calibrate import TensorsData

from hmr_ros.runtime.half_precision import typed_network
from hmr_ros.training.errors import TrainingError

Feeds = Mapping[str, np.ndarray]
#: how the ranges of activations are found from what calibration sees.
METHODS = ('minmax', 'percentile', 'entropy')
# Their values pass through these, in the steps of the layer that made them.
_PASSING = ('MaxPool', 'Relu')


@dataclass(frozen=True)
class Target:
    """
    How a file says int8, for those who run it.

    activations  QInt8, then symmetric, or QUInt8
    layers       operators that are quantized where their weights are constants
    inputs_only  quantize what layers take, not what they give
    explicit     weights are float32 before a QuantizeLinear, and biases stay float32
    """

    activations: QuantType
    layers: tuple[str, ...]
    inputs_only: bool
    explicit: bool


TARGETS = {
    # TensorRT fuses a layer with what follows it until the next QuantizeLinear, knows int8 with
    # zero points 0 only, and before 10.x wanted weights as float32.
    'both': Target(
        QuantType.QInt8, ('Conv', 'ConvTranspose', 'Gemm', 'MatMul'), True, True),
    # Matrix products are too small here to pay for their conversions.
    'cpu': Target(QuantType.QUInt8, ('Conv',), False, False)}
# Processors without VNNI add two products of uint8 and int8 in 16 bits, which saturate. Seven bits
# of weights never do: with eight, onnxruntime can be wrong by a quarter there and say nothing.
_SEVEN_BITS = True


def float_network(content: bytes, path: Path) -> onnx.ModelProto:
    """
    Return the ONNX file `content` with its weights as float32 constants, and with all shapes.

    Raises EngineError when it is not ONNX, whose `path` is named.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / 'folded.onnx', Path(folder) / 'float.onnx'
        source.write_bytes(typed_network(content, 'fp32', path))
        # Symbolic shapes need sympy, and only the batch is open here.
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
        model = onnx.load(target)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f'{node.op_type}_{number}'
    return model


def quantizable(model: onnx.ModelProto, target: Target) -> tuple[str, ...]:
    """Return the names of the layers of `model` that `target` can have in int8, in order."""
    # A stack of matrices, one for each joint, has no kernel in onnxruntime.
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    return tuple(
        node.name for node in model.graph.node if node.op_type in target.layers
        and (ranks.get(node.input[1], 0) == 2 if node.op_type == 'MatMul'
             else node.input[1] in ranks))


class _Reader(CalibrationDataReader):
    """Gives each batch once."""

    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def calibrate(
        model: onnx.ModelProto, target: Target, feeds: Sequence[Feeds],
        method: str = 'minmax') -> TensorsData:
    """
    Return the ranges of the activations that `target` quantizes, over `feeds`, by one of METHODS.

    Raises TrainingError when there are no feeds.
    """
    if not feeds:
        raise TrainingError('calibration has no pictures; give at least one batch')
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / 'float.onnx'
        onnx.save(model, source)
        calibrator = create_calibrator(
            str(source), [*target.layers, 'Add', *_PASSING], str(Path(folder) / 'ranges.onnx'),
            {'minmax': CalibrationMethod.MinMax, 'percentile': CalibrationMethod.Percentile,
             'entropy': CalibrationMethod.Entropy}[method])
        # onnxruntime prints its steps, which say nothing that a user could change.
        with redirect_stdout(io.StringIO()):
            # Batch by batch: some methods keep all that was collected in one go.
            for feed in feeds:
                calibrator.collect_data(_Reader([feed]))
            return calibrator.compute_data()


def quantized(
        model: onnx.ModelProto, target: Target, ranges: TensorsData,
        layers: Iterable[str]) -> bytes:
    """
    Return the ONNX file of `model` with `layers` in int8, and the sums and maxima between them.

    Weights are int8 of seven bits, symmetric, one scale per output channel. What a layer takes is
    rounded for all who take it, those in float too.
    """
    layers = frozenset(layers)
    if not layers:
        return model.SerializeToString()
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    operators = [*target.layers, 'Add', *_PASSING]
    symmetric = target.activations == QuantType.QInt8
    quantizer = QDQQuantizer(
        copied, True, _SEVEN_BITS, QuantType.QInt8, target.activations, ranges,
        [*layers, *_between(model, layers)], [], operators, {
            'ActivationSymmetric': symmetric, 'WeightSymmetric': True,
            'QuantizeBias': not target.explicit, 'AddQDQPairToWeight': target.explicit,
            'DedicatedQDQPair': target.explicit,
            'OpTypesToExcludeOutputQuantization': operators if target.inputs_only else []})
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model.SerializeToString()


def _between(model: onnx.ModelProto, layers: frozenset[str]) -> Iterator[str]:
    """Nodes whose every input is what a layer of `layers` gave, or a sum or maximum of such."""
    known: set[str] = set()
    for node in model.graph.node:
        if node.name in layers:
            known.update(node.output)
        elif node.op_type in ('Add', *_PASSING) and known.issuperset(node.input):
            known.update(node.output)
            yield node.name
