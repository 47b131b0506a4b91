# SPDX-License-Identifier: Apache-2.0
"""
Makes torch programs of an ONNX graph.

onnx2torch 1.5.15 was looked at first: of opset 18 it lacks Split, Pad, ReduceMean and ReduceL2,
it takes no weights behind a Cast, it imports torchvision, and it reads shapes back from the
GPU in each run, which a CUDA graph cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hmr_ros.runtime.engine import EngineError, TensorSpec
from hmr_ros.runtime.half_precision import parse_network
from hmr_ros.runtime.torch_operators import Operator, OPERATORS

Tensors = Mapping[str, Tensor]
#: older operators have the same names and other inputs.
_OLDEST_OPSET = 13
_OUR_DOMAINS = ('', 'ai.onnx')


@dataclass(frozen=True)
class Node:
    """
    One node of the graph.

    inputs      names; '' for one that is left out
    function    how torch computes it, its attributes bound
    tensors     how many inputs are tensors, see `Operator`
    last_uses   values that no later node needs
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    function: Callable[..., Any]
    tensors: int
    last_uses: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """
    One call of a program.

    arguments   what the function takes, in order; a string is the name of a value
    results     names of what it returns
    last_uses   see `Node`
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    results: tuple[str, ...]
    last_uses: tuple[str, ...]

    def run(self, values: dict[str, Tensor]) -> None:
        """Compute the results into `values`, and drop from it what is of no more use."""
        found = self.function(*(
            values[argument] if type(argument) is str else argument
            for argument in self.arguments))
        if isinstance(found, Tensor):
            values[self.results[0]] = found
        else:
            values.update(zip(self.results, found))
        for name in self.last_uses:
            values.pop(name, None)


@dataclass(frozen=True)
class Program:
    """
    The network for one batch size, with all arithmetic of shapes already done.

    results    names of the outputs
    constants  those outputs that depend on the batch size alone
    """

    steps: tuple[Step, ...]
    results: tuple[str, ...]
    constants: Tensors

    def __call__(self, feeds: Tensors) -> dict[str, Tensor]:
        """Run on tensors of that batch size, on the device of the network, name by name."""
        values = {**feeds, **self.constants}
        for step in self.steps:
            step.run(values)
        return {name: values[name] for name in self.results}


class TorchNetwork:
    """An ONNX graph whose weights are on a device."""

    def __init__(self, content: bytes, path: Path, device: torch.device) -> None:
        """
        Read the ONNX file `content`; `path` is named in errors.

        Raises EngineError when it is not ONNX, or has operators that are not known here.
        """
        model = parse_network(content, path)
        self.path, self.device = path, device
        _check_operators(model, path)
        self.inputs = tuple(_spec(value, path) for value in _fed(model.graph))
        self.outputs = tuple(_spec(value, path) for value in model.graph.output)
        self._constants = {
            tensor.name: _tensor(tensor, path) for tensor in model.graph.initializer}
        self._nodes = tuple(self._folded(_nodes(model, path)))
        self._placed: dict[str, Tensor] = {}

    def trace(self, feeds: Tensors) -> tuple[Program, dict[str, Tensor]]:
        """
        Run on `feeds`, name -> tensor on the device, and return the program of their batch size.

        Returns the program, and the outputs of this run. Raises EngineError that names the
        operator which cannot be computed.
        """
        known, values, steps = dict(self._constants), dict(feeds), []
        for node in self._nodes:
            if node.kind == 'Shape':
                self._run(node, ({**values, **known}[node.inputs[0]],), known)
            elif _is_known(node, known):
                self._run(node, self._arguments(node, known, _as_it_is), known)
            else:
                steps.append(self._run(node, self._arguments(node, known, self._place), values))
        names = tuple(spec.name for spec in self.outputs)
        constants = {name: self._place(name, known[name]) for name in names if name in known}
        results = {**values, **constants}
        return Program(tuple(steps), names, constants), {name: results[name] for name in names}

    def _folded(self, nodes: Sequence[Node]) -> Iterator[Node]:
        """Compute what depends on no input, such as weights behind a Cast; return the others."""
        for node in nodes:
            if _is_known(node, self._constants):
                self._run(
                    node, self._arguments(node, self._constants, _as_it_is), self._constants)
            else:
                yield node

    def _arguments(
            self, node: Node, known: Tensors, place: Callable[[str, Tensor], Tensor],
    ) -> tuple[Any, ...]:
        """Return tensors for the inputs that are `known`, numbers for lists, else names."""
        arguments: list[Any] = []
        for position, name in enumerate(node.inputs):
            if not name:
                arguments.append(None)
            elif name not in known:
                if position >= node.tensors:
                    raise EngineError(
                        f'{self._who(node)} takes {name!r} from what the network computes; the '
                        'torch backend needs it constant. Use backend onnxruntime')
                arguments.append(name)
            elif position < node.tensors:
                arguments.append(place(name, known[name]))
            else:
                arguments.append(known[name].tolist())
        return tuple(arguments)

    def _run(
            self, node: Node, arguments: tuple[Any, ...], values: dict[str, Tensor]) -> Step:
        step = Step(node.function, arguments, node.outputs, node.last_uses)
        try:
            with torch.inference_mode():
                step.run(values)
        except Exception as error:  # torch raises whatever its operators please
            raise EngineError(
                f'{self._who(node)} cannot be computed by torch {torch.__version__}: {error}; use '
                'backend onnxruntime') from error
        return step

    def _who(self, node: Node) -> str:
        return f'operator {node.kind} (node {node.name!r}) of {self.path}'

    def _place(self, name: str, tensor: Tensor) -> Tensor:
        """Return a constant on the device; weights are there once for all batch sizes."""
        if name in self._placed:
            return self._placed[name]
        # Convolutions are fastest when all channels of a place lie together.
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        placed = tensor.to(self.device).contiguous(memory_format=layout)
        if name in self._constants:
            self._placed[name] = placed
        return placed


def _as_it_is(name: str, tensor: Tensor) -> Tensor:
    return tensor


def _is_known(node: Node, known: Tensors) -> bool:
    return all(name in known for name in node.inputs if name)


def _fed(graph: Any) -> Iterator[Any]:
    """Older files list their weights among the inputs."""
    stored = {tensor.name for tensor in graph.initializer}
    return (value for value in graph.input if value.name not in stored)


def _check_operators(model: Any, path: Path) -> None:
    opset = {entry.domain: entry.version for entry in model.opset_import}.get('', 0)
    if opset < _OLDEST_OPSET:
        raise EngineError(
            f'{path} has opset {opset}; the torch backend takes {_OLDEST_OPSET} and newer. Export '
            'it again with `hmr export`, or use backend onnxruntime')
    unknown = sorted({
        node.op_type for node in model.graph.node
        if node.domain not in _OUR_DOMAINS or node.op_type not in OPERATORS})
    if unknown:
        raise EngineError(
            f'{path} has operators that the torch backend does not know: {", ".join(unknown)}; '
            'use backend onnxruntime')


def _spec(value: Any, path: Path) -> TensorSpec:
    import onnx
    kind = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    except KeyError as error:
        raise EngineError(
            f'tensor {value.name!r} of {path} is of ONNX type {kind.elem_type}, which numpy '
            'lacks; export it again with `hmr export`') from error
    return TensorSpec(
        value.name, tuple(
            size.dim_value if size.HasField('dim_value') else -1 for size in kind.shape.dim),
        np.dtype(dtype).name)


def _tensor(tensor: Any, path: Path) -> Tensor:
    import onnx
    try:
        return torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
    except Exception as error:  # a dozen, by what is wrong with it
        raise EngineError(
            f'weights {tensor.name!r} of {path} cannot be read: {error}; export it again with '
            '`hmr export`') from error


def _nodes(model: Any, path: Path) -> list[Node]:
    last: dict[str, int] = {}
    for index, node in enumerate(model.graph.node):
        last.update({name: index for name in (*node.input, *node.output)})
    wanted = {value.name for value in model.graph.output}
    return [
        Node(node.op_type, node.name, tuple(node.input), tuple(node.output),
             _bound(node, OPERATORS[node.op_type], path), OPERATORS[node.op_type].tensors,
             tuple({name for name in (*node.input, *node.output)
                    if last[name] == index and name not in wanted}))
        for index, node in enumerate(model.graph.node)]


def _bound(node: Any, operator: Operator, path: Path) -> Callable[..., Any]:
    import onnx
    attributes = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        attributes[attribute.name] = (
            _tensor(value, path) if isinstance(value, onnx.TensorProto) else value)
    return functools.partial(operator.function, **attributes) if attributes else operator.function
