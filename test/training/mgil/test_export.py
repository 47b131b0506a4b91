# SPDX-License-Identifier: Apache-2.0
"""Engines of mgil compute what the trained networks do: sheet, section 6 and check 11."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
onnx = pytest.importorskip('onnx', reason='export needs onnx')
onnxruntime = pytest.importorskip('onnxruntime', reason='the files are run by onnxruntime')

from hmr_ros.networks.mgil import build_pose, NAMED, PoseNetwork, square  # noqa: E402
from hmr_ros.networks.mgil.deploy import deployable, gate_means, gates_of  # noqa: E402
from hmr_ros.networks.mgil.detector import decode, Detector  # noqa: E402
from hmr_ros.training.mgil.export import export_detector, export_pose  # noqa: E402

pytestmark = pytest.mark.torch


def run(path: Path, image: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'image': image.numpy()})


def check_parity(network: PoseNetwork, path: Path, side: int) -> None:
    """At N = 1 and 4 from one file, as check 11 has it."""
    for people in (1, 4):
        image = torch.randn(people, 3, side, side)
        with torch.no_grad():
            expected = network(image)
        assert expected[0].std() > 0.05
        for value, reference in zip(run(path, image), expected):
            assert value.shape == reference.shape
            assert np.abs(value - reference.numpy()).max() <= 1e-4


@pytest.mark.parametrize('name', ['strided', 'spd', 'add', 'mgil', 'pointwise', 'control'])
def test_pose_engines_equal_torch(settled, name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = settled(build_pose(square('small', NAMED[name], 64)))
    check_parity(network, export_pose(network, tmp_path / 'pose.onnx', 'float32'), 64)


@pytest.mark.slow
def test_resnet_engines_equal_torch(settled, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = settled(build_pose(square('resnet50', NAMED['mgil'], 32)))
    check_parity(network, export_pose(network, tmp_path / 'pose.onnx', 'float32'), 32)
    graph = onnx.load(tmp_path / 'pose.onnx').graph
    # The norms of the five hosts' layers, behind weighted sums; all others are folded.
    assert Counter(node.op_type for node in graph.node)['BatchNormalization'] <= 5


@pytest.mark.slow
def test_published_engine_equals_torch(settled, tmp_path: Path) -> None:
    """Check 11, and the nodes of the graph that section 6 wants."""
    torch.manual_seed(1)
    network = settled(build_pose(square('w32', NAMED['mgil'], 32)))
    path = export_pose(network, tmp_path / 'pose.onnx', 'float32')
    check_parity(network, path, 32)
    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert kinds['Slice'] == 0 and kinds['Resize'] == 28 and kinds['BatchNormalization'] <= 42
    # Two means, one gate convolution, one matrix and one softmax for each block.
    assert kinds['ReduceMean'] == 84 and kinds['Softmax'] == kinds['Gemm'] == 42


def test_graph_suits_every_engine(tmp_path: Path) -> None:
    network = build_pose(square('small', NAMED['mgil'], 64))
    model = onnx.load(export_pose(network, tmp_path / 'pose.onnx', 'float32'))
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {'Slice', 'Shape', 'Gather', 'Loop', 'If', 'Einsum', 'SpaceToDepth'}
    constants = {node.output[0] for node in model.graph.node if node.op_type == 'Constant'}
    constants |= {tensor.name for tensor in model.graph.initializer}
    sizes = [node.input[2] for node in model.graph.node if node.op_type == 'Resize']
    assert len(sizes) == 10 and set(sizes) <= constants, 'constant scales'
    kernels = [attribute.ints for node in model.graph.node if node.op_type == 'Conv'
               for attribute in node.attribute if attribute.name == 'kernel_shape']
    assert all(len(kernel) == 2 for kernel in kernels), 'the gate is no 1-D convolution'
    for tensor in [*model.graph.input, *model.graph.output]:
        people, *rest = tensor.type.tensor_type.shape.dim
        assert people.dim_param == 'people' and all(size.dim_value > 0 for size in rest)


def test_deploying_leaves_the_trained_network_alone() -> None:
    network = build_pose(square('small', NAMED['mgil'], 64)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    deployable(network)
    assert network.training and all(p.requires_grad for p in network.parameters())
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_frozen_gates_are_means_of_the_calibration(settled, tmp_path: Path) -> None:
    """Exact for pictures that are all alike; for others close, and without gates in the graph."""
    torch.manual_seed(1)
    network = settled(build_pose(square('small', NAMED['mgil'], 64)))
    image = torch.randn(1, 3, 64, 64)
    means = gate_means(network, image.expand(3, -1, -1, -1))
    assert set(means) == {name for name, _ in gates_of(network)} and len(means) == 14
    for weights in means.values():
        assert weights.sum() == pytest.approx(1, abs=1e-5)
    path = export_pose(network, tmp_path / 'pose.onnx', 'float32', means)
    with torch.no_grad():
        for value, reference in zip(run(path, image), network(image)):
            assert np.abs(value - reference.numpy()).max() <= 1e-4
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        assert not kinds & {'Softmax', 'ReduceMean', 'Gemm'}
        halves = {name: torch.full((2,), 0.5) for name in means}
        other = deployable(network, halves)(image)[0]
        assert (other - network(image)[0]).abs().max() > 1e-2, 'the gates do matter here'


def test_float16_storage_halves_the_file(settled, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = settled(build_pose(square('small', NAMED['mgil'], 64)))
    whole = export_pose(network, tmp_path / 'whole.onnx', 'float32')
    half = export_pose(network, tmp_path / 'half.onnx')
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    image = torch.randn(2, 3, 64, 64)
    for value, expected in zip(run(half, image), run(whole, image)):
        assert np.abs(value - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize('name', ['strided', 'mgil'])
def test_detector_engine_equals_torch(settled, name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = settled(Detector(1, NAMED[name]))
    path = export_detector(network, (96, 128), tmp_path / 'detector.onnx', 'float32')
    image = torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        expected = decode(network(image))
    boxes, scores = run(path, image)
    assert boxes.shape == (2, 3 * (12 * 16 + 6 * 8 + 3 * 4), 4) and scores.shape[2] == 1
    np.testing.assert_allclose(boxes, expected.boxes, atol=2e-3, rtol=1e-4)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
