# SPDX-License-Identifier: Apache-2.0
"""The compact network: what its maps mean, and that its engine is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from hmr_ros.networks.keypoint_guided import (  # noqa: E402
    build_network, COMPACT, input_shapes, output_shapes)
from hmr_ros.networks.keypoint_guided.compact import (  # noqa: E402
    cell_centres, CompactKeypointGuided, KeypointMaps, TokenReader)
from hmr_ros.networks.keypoint_guided.deploy import deployable  # noqa: E402
from hmr_ros.networks.keypoint_guided.pyramid import PyramidNet  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope='module')
def network() -> CompactKeypointGuided:
    """Random weights with batch statistics that are not trivial."""
    torch.manual_seed(0)
    network = build_network(COMPACT)
    with torch.no_grad():
        network(torch.randn(4, 3, 128, 128))
    return network.eval()


def test_shapes(network: CompactKeypointGuided) -> None:
    with torch.no_grad():
        prediction = network(torch.randn(2, 3, 128, 128))
    shapes = {name: tuple(value.shape) for name, value in prediction._asdict().items()}
    assert shapes == {name: (2, *shape[1:]) for name, shape in output_shapes(network).items()}
    assert input_shapes(network) == {'image': (-1, 3, 128, 128)}
    assert 0 < prediction.sigma.min() and prediction.sigma.max() <= 1


def test_backbone_is_a_narrow_resnet18() -> None:
    """Every stage is ResNet-18's (He et al. 2016, table 1) at three quarters of its width."""
    backbone = PyramidNet()
    widths = [[conv.out_channels for conv in layer.modules() if isinstance(conv, torch.nn.Conv2d)
               and conv.kernel_size == (3, 3)] for layer in (
                   backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)]
    assert widths == [[width * 3 // 4] * 4 for width in (64, 128, 256, 512)]
    fine, coarse = backbone(torch.zeros(2, 3, 128, 128))
    assert fine.shape == (2, 128, 16, 16) and coarse.shape == (2, 384)
    assert fine.min() >= 0 and coarse.min() >= 0


@pytest.mark.parametrize('row, column', [(0, 0), (3, 12), (15, 15)])
def test_a_sharp_map_is_read_at_its_cell(row: int, column: int) -> None:
    """A filter that answers to one feature channel finds where that channel is on."""
    maps = KeypointMaps(4)
    with torch.no_grad():
        for parameter in maps.parameters():
            parameter.zero_()
        maps.place.weight[:, 0, 1, 1] = 50.0
        maps.depth.weight[:, 1] = 0.25
        fine = torch.zeros(1, 4, 16, 16)
        fine[0, :2, row, column] = 1.0
        reading, tokens = maps(fine)
    expected = torch.tensor([(column + 0.5) / 16 - 0.5, (row + 0.5) / 16 - 0.5, 0.25])
    torch.testing.assert_close(reading.uvd, expected.expand(1, 96, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens[0], fine[0, :, row, column].expand(96, 4))


def test_flat_maps_are_read_in_the_middle() -> None:
    torch.testing.assert_close(cell_centres(16).mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    assert cell_centres(8)[1].tolist() == [1.5 / 8 - 0.5, 0.5 / 8 - 0.5]


def test_twist_of_a_joint_is_read_from_its_token() -> None:
    """Without layers between them, joint i's token moves phi of joint i only."""
    torch.manual_seed(1)
    reader = TokenReader(4, 8)
    reader.layers = torch.nn.ModuleList()
    tokens = torch.randn(1, 96, 4, requires_grad=True)
    phi = reader(tokens, torch.zeros(1, 96, 3), torch.zeros(1, 8)).phi
    for joint in (1, 16, 23):
        gradient, = torch.autograd.grad(phi[0, joint - 1].sum(), tokens, retain_graph=True)
        assert gradient[0].abs().sum(1).nonzero().flatten().tolist() == [joint]


def test_deployable_network_equals_the_trained_one(network: CompactKeypointGuided) -> None:
    image = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        for deployed, full in zip(deployable(network)(image), network(image)):
            torch.testing.assert_close(deployed, full, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope='module')
def onnx_file(
        network: CompactKeypointGuided, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hmr_ros.training.keypoint_guided.export import export_onnx
    return export_onnx(network, tmp_path_factory.mktemp('onnx') / 'network.onnx', 'float32')


@pytest.mark.parametrize('people', [1, 3, 8])
def test_onnx_equals_torch(
        network: CompactKeypointGuided, onnx_file: Path, people: int) -> None:
    import onnxruntime
    session = onnxruntime.InferenceSession(str(onnx_file), providers=['CPUExecutionProvider'])
    image = torch.randn(people, 3, 128, 128)
    with torch.no_grad():
        expected = network(image)
    for value, reference in zip(session.run(None, {'image': image.numpy()}), expected):
        assert np.abs(value - reference.numpy()).max() < 1e-4 * max(1, reference.abs().max())


def test_engine_has_no_control_flow(onnx_file: Path) -> None:
    import onnx
    kinds = {node.op_type for node in onnx.load(onnx_file).graph.node}
    assert not kinds & {'If', 'Loop', 'Scan', 'Where', 'OneHot', 'BatchNormalization'}
