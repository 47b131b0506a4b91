# SPDX-License-Identifier: Apache-2.0
"""Engines of the digitizer compute what its networks do (checks 2, 10 and 12)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
onnx = pytest.importorskip('onnx', reason='export needs onnx')
onnxruntime = pytest.importorskip('onnxruntime', reason='the files are run by onnxruntime')
from torch import nn  # noqa: E402

from hmr_ros.evaluation.digitizer_complexity import describe  # noqa: E402
from hmr_ros.networks.digitizer_2k2k import build_network, Digitizer, Variant  # noqa: E402
from hmr_ros.perception.digitizer.depth import FRONT_EMPTY, UNITS_PER_D  # noqa: E402
from hmr_ros.perception.digitizer.networks import EngineNetworks, ENGINES  # noqa: E402
from hmr_ros.perception.digitizer.parts import PARTS, PATCHES, patch_size  # noqa: E402
from hmr_ros.runtime import BuildOptions, Engine, EngineError, load_engine  # noqa: E402
from hmr_ros.runtime.digitizer import DIGITIZER_ENGINES, open_digitizer  # noqa: E402
from hmr_ros.runtime.half_precision import degradation, EXACT_NODE, typed_network  # noqa: E402
from hmr_ros.runtime.manifest import read_manifest  # noqa: E402
from hmr_ros.training.digitizer_2k2k.export import (  # noqa: E402
    export_engines, Graph, graphs_of, write_graph)
from hmr_ros.training.digitizer_2k2k.weights import DigitizerFacts  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402

pytestmark = pytest.mark.torch
TINY = Variant(512, 1 / 8)
NAMES = [f'digitizer_2k2k_{part}' for part in ENGINES]
#: millimetres of the sheet's unit.
UNIT_MM = 2520
Settle = Callable[[nn.Module], nn.Module]


def trained(settled: Settle, variant: Variant) -> Digitizer:
    """Norms have values that training might leave, and depth those of bodies."""
    torch.manual_seed(0)
    network = settled(build_network(variant)).requires_grad_(False)
    for head in (network.low_depth.head, network.high_depth.block3.last):
        head.weight *= 0.05
        head.bias[:] = torch.tensor([1.8, 2.2, 0])
    return network


@pytest.fixture(scope='module')
def network(settled: Settle) -> Digitizer:
    return trained(settled, TINY)


@pytest.fixture(scope='module')
def folder(network: Digitizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('engines')
    export_engines(network, folder, weights='float32')
    return folder


def opened(folder: Path) -> dict[str, Engine]:
    return open_digitizer(f'{folder}/digitizer_2k2k', 'onnxruntime')


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


# ---- check 10

def test_engines_equal_the_networks_of_torch(network: Digitizer, folder: Path) -> None:
    """Those of torch keep their norms."""
    engines = EngineNetworks(opened(folder))
    assert engines.resolution == 512
    image = 2 * random(3, 64, 64) - 1
    for found, expected in zip(engines.low(image), network.low(torch.from_numpy(image)[None])):
        np.testing.assert_allclose(found, expected[0], atol=1e-4)
        assert found.std() > 1e-3
    patches = {name: 2 * random(sum(part.patch == name for part in PARTS), 6,
                                *patch_size(name, 512)) - 1 for name in PATCHES}
    for name, found in engines.parts(patches).items():
        expected = network.parts[name](torch.from_numpy(patches[name]))
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert found.std() > 0.01
    pair, normals = 4 * random(2, 64, 64), random(6, 512, 512)
    expected = network.high_depth(*(torch.from_numpy(x)[None] for x in (pair, normals)))[0]
    np.testing.assert_allclose(engines.refine(pair, normals), expected, atol=1e-4)


def test_tiles_of_a_large_image_equal_the_whole(settled: Settle, tmp_path: Path) -> None:
    network = trained(settled, Variant(1024, 1 / 32))
    export_engines(network, tmp_path, weights='float32')
    pair, normals = 4 * random(2, 128, 128), random(6, 1024, 1024)
    # Nobody is in the lower right tile.
    pair[0, 58:, 58:], pair[1, 58:, 58:] = FRONT_EMPTY, 0
    found = EngineNetworks(opened(tmp_path)).refine(pair, normals)
    whole = network.high_depth(*(torch.from_numpy(x)[None] for x in (pair, normals)))[0].numpy()
    assert (found[:2, 512:, 512:] == np.float32([FRONT_EMPTY, 0])[:, None, None]).all()
    found[:, 512:, 512:] = whole[:, 512:, 512:]
    np.testing.assert_allclose(found, whole, atol=1e-4)


def test_torch_runs_the_same_files(folder: Path) -> None:
    for name in ('low', 'refine'):
        engine, other = (load_engine(str(folder / f'digitizer_2k2k_{name}.onnx'), backend)
                         for backend in ('onnxruntime', 'torch'))
        feeds = {spec.name: random(*spec.shape_for(1)) for spec in engine.inputs}
        results = engine.run(feeds), other.run(feeds)
        for key in results[0]:
            np.testing.assert_allclose(*(found[key] for found in results), atol=1e-4)


def test_the_trained_networks_are_left_alone(network: Digitizer) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert [graph.part for graph in graphs_of(network.train())] == list(ENGINES)
    assert network.training
    for name, value in network.eval().state_dict().items():
        assert torch.equal(value, before[name]), name


# ---- check 2

def multiplications(path: Path, batch: int) -> float:
    """GMAC of the convolutions of a file, by ONNX's own inference of shapes."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
              for value in (*graph.value_info, *graph.output)}
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    return batch * sum(
        math.prod(shapes[node.output[0]][1:]) * math.prod(weights[node.input[1]][1:])
        for node in graph.node if node.op_type == 'Conv') / 1e9


def test_engines_are_convolutions_with_shapes_that_are_known(folder: Path) -> None:
    known = {'Conv', 'Relu', 'MaxPool', 'Resize', 'Concat', 'Sigmoid', 'Mul', 'Add', 'Slice',
             'Clip', 'Constant'}
    for name, entry in read_manifest(folder).items():
        graph = onnx.load(folder / entry.file).graph
        assert {node.op_type for node in graph.node} <= known, name
        for tensor in (*graph.input, *graph.output):
            first, *rest = tensor.type.tensor_type.shape.dim
            assert first.dim_param and all(size.dim_value > 0 for size in rest)


def test_engines_do_the_work_of_the_networks(folder: Path) -> None:
    counted = {name: multiplications(folder / entry.file, entry.max_batch)
               for name, entry in read_manifest(folder).items()}
    gmacs = describe(TINY)['gmacs_by_module']
    expected = {'low': gmacs['low_normals'] + gmacs['low_depth'], 'refine': gmacs['high_depth'],
                **{name: gmacs[name] for name in PATCHES}}
    for part, work in expected.items():
        assert counted[f'digitizer_2k2k_{part}'] == pytest.approx(work, rel=1e-3), part


# ---- check 12

def half_errors_mm(graph: Graph, path: Path) -> list[float]:
    """Mean error of depth in fp16, as it is exported and without exact nodes."""
    write_graph(graph, path)
    model, feeds = onnx.load(path), {spec.name: random(*spec.shape_for(1)) for spec in graph.inputs}
    for node in model.graph.node:
        node.name = node.name.removeprefix(EXACT_NODE)
    contents = (path.read_bytes(), typed_network(path.read_bytes(), 'fp16', path),
                typed_network(model.SerializeToString(), 'fp16', path))
    exact, kept, full = (onnxruntime.InferenceSession(
        content, providers=['CPUExecutionProvider']).run(['depth'], feeds)[0][:, :2]
        for content in contents)
    assert 0.5 < exact.min() and exact.max() < 3.5 and exact.std() > 0.05
    return [float(np.abs(found - exact).mean()) * UNITS_PER_D * UNIT_MM for found in (kept, full)]


@pytest.mark.parametrize('part', ['low', 'refine'])
def test_depth_keeps_float32_in_fp16(network: Digitizer, part: str, tmp_path: Path) -> None:
    graph, = (graph for graph in graphs_of(network) if graph.part == part)
    kept, full = half_errors_mm(graph, tmp_path / 'it.onnx')
    assert kept <= 0.3 and kept < 0.7 * full


@pytest.mark.parametrize('part', ['low', 'refine'])
def test_nothing_behind_the_last_convolution_is_rounded(folder: Path, part: str) -> None:
    path = folder / f'digitizer_2k2k_{part}.onnx'
    graph = onnx.load_model_from_string(typed_network(path.read_bytes(), 'fp16', path)).graph
    onnx.checker.check_graph(graph)
    makers = {name: node for node in graph.node for name in node.output}
    waiting, kinds = ['depth'], set()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None:
            kinds.add(node.op_type)
            waiting += [] if node.op_type == 'Conv' else node.input
    assert kinds == {'Concat', 'Slice', 'Clip', 'Sigmoid', 'Constant', 'Conv'}


def test_a_file_whose_depth_is_all_of_fp16_is_reported(folder: Path) -> None:
    entries = read_manifest(folder)
    low = entries['digitizer_2k2k_low']
    content = (folder / low.file).read_bytes()
    assert degradation(content, low, 'fp16') == ''
    stripped = content.replace(EXACT_NODE.encode(), b'')
    assert degradation(stripped, low, 'fp16').startswith('; degraded: all of the file is computed')
    assert degradation(stripped, low, 'fp32') == ''
    assert degradation(stripped, entries['digitizer_2k2k_arm'], 'fp16') == ''


# ---- manifest and weights

def test_entries_say_what_the_engines_are(folder: Path) -> None:
    entries = read_manifest(folder)
    assert sorted(entries) == sorted(NAMES)
    assert {entry.network for entry in entries.values()} == {'digitizer_2k2k'}
    assert {entry.image_size for entry in entries.values()} == {512}
    assert entries['digitizer_2k2k_low'].mean == (0.5, 0.5, 0.5)
    assert entries['digitizer_2k2k_refine'].inputs == {
        'pair': (-1, 2, 64, 64), 'normals': (-1, 6, 512, 512)}
    assert {name: entries[f'digitizer_2k2k_{name}'].max_batch for name in ENGINES} == {
        'low': 1, 'head': 1, 'torso': 1, 'arm': 4, 'leg': 4, 'foot': 2, 'refine': 1}
    assert DIGITIZER_ENGINES == ENGINES


def test_small_files_hold_float16_but_for_what_makes_depth(
        network: Digitizer, tmp_path: Path) -> None:
    graph, = (graph for graph in graphs_of(network) if graph.part == 'low')
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(
        write_graph(graph, tmp_path / 'low.onnx')).graph.initializer}
    assert stored['depth.head.weight'] == stored['depth.head.bias'] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.FLOAT16 in stored.values()


def test_weights_of_the_first_phase_are_refused(network: Digitizer, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match='phase 1.*Train or import phase 2'):
        export_engines(network, tmp_path, facts=replace(DigitizerFacts(), phase=1))
    assert not list(tmp_path.iterdir())


def test_all_are_closed_when_one_cannot_be_opened(folder: Path) -> None:
    closed: list[str] = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            closed.append(self.name)

    def fake(name: str, *_: object) -> Fake:
        if name.endswith('torso'):
            raise EngineError('no such engine')
        return Fake(name)
    with pytest.raises(EngineError, match='no such engine'):
        open_digitizer('it', 'auto', 'auto', 1, BuildOptions(), fake)
    assert closed == ['it_low', 'it_head']
