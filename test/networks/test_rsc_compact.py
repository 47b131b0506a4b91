# SPDX-License-Identifier: Apache-2.0
"""The compact backbone of rsc_net: the same scaling of residual branches, and where joints are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from torch import nn  # noqa: E402

from hmr_ros.networks.rsc_net import RscNet  # noqa: E402
from hmr_ros.networks.rsc_net.deploy import RowEngine, SingleRowEngine  # noqa: E402

pytestmark = pytest.mark.torch
ROWS = torch.arange(5)


@pytest.fixture(scope='module')
def network() -> RscNet:
    """Random weights, statistics of norms that are not trivial, five different rows of alpha."""
    torch.manual_seed(0)
    network = RscNet(backbone='compact')
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
        for alpha in network.backbone.alphas:
            alpha.uniform_(0.5, 1.5)
        for decoder in (network.regressor.pose, network.regressor.betas, network.regressor.camera):
            decoder.weight.mul_(20)
        network(torch.randn(4, 3, 96, 96), torch.tensor([0, 3, 1, 2]))
    return network.eval()


@pytest.fixture(scope='module')
def image() -> torch.Tensor:
    return torch.randn(5, 3, 96, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope='module')
def mixed(network: RscNet, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return network(image, ROWS)


def close(value: torch.Tensor, reference: torch.Tensor) -> None:
    assert (value - reference).abs().max() < 1e-5 * reference.abs().max()


def test_alpha_of_ones_is_the_plain_network(network: RscNet, image: torch.Tensor) -> None:
    backbone = network.backbone
    kept = backbone.alphas
    backbone.alphas = nn.ParameterList(torch.ones_like(alpha) for alpha in kept)
    try:
        with torch.no_grad():
            feature = backbone(image, ROWS)
            fine, coarse = backbone.pyramid(image)
            reading, _ = backbone.maps(fine)
    finally:
        backbone.alphas = kept
    assert kept[0].shape == (8,) and feature.shape == (5, network.features) == (5, 672)
    close(feature[:, :384], coarse)
    close(feature[:, 384:], 4 * reading.uvd.flatten(1))


def test_every_column_of_alpha_matters(network: RscNet, image: torch.Tensor) -> None:
    row = torch.tensor([2])
    feature = network.backbone(image[:1], row)
    gradient, = torch.autograd.grad(feature.square().sum(), network.backbone.alphas[2])
    assert (gradient != 0).all()


def test_engines_equal_the_network(
        network: RscNet, image: torch.Tensor, mixed: tuple[torch.Tensor, ...]) -> None:
    """Norms folded, those of the pyramid too; alpha looked up, or inside the convolutions."""
    with torch.no_grad():
        looked_up = RowEngine(network)(image, ROWS.int())
        folded = [SingleRowEngine(network, row)(image[row:row + 1]) for row in range(5)]
    for value, reference in zip(looked_up, mixed):
        close(value, reference)
    for values, reference in zip(zip(*folded), mixed):
        close(torch.cat(values), reference)


def test_onnx_equals_torch(
        network: RscNet, image: torch.Tensor, mixed: tuple[torch.Tensor, ...],
        tmp_path: Path) -> None:
    import onnx
    import onnxruntime
    from hmr_ros.training.rsc_net.export import export_rsc_net
    path = export_rsc_net(network, tmp_path / 'network.onnx', 'float32')
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert not kinds & {'If', 'Loop', 'Where', 'Expand', 'BatchNormalization'}
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for rows in ([2], [4, 0, 1], [0, 1, 2, 3, 4]):
        values = session.run(['pose6d', 'betas', 'cam', 'feature'], {
            'image': image[rows].numpy(), 'row': np.array(rows, np.int32)})
        for value, reference in zip(values, mixed):
            assert np.abs(value - reference[rows].numpy()).max() < 1e-4
