# SPDX-License-Identifier: Apache-2.0
"""rsc_net against its sheet, checks 1 to 3 and 10."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from torch.nn import functional  # noqa: E402

from hmr_ros.networks.rsc_net import ContrastiveHead, RscNet  # noqa: E402
from hmr_ros.networks.rsc_net.deploy import RowEngine, SingleRowEngine, SplitRegressor  # noqa: E402
from hmr_ros.networks.rsc_net.regressor import Regressor  # noqa: E402

pytestmark = pytest.mark.torch


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope='module')
def network() -> RscNet:
    """Random weights and alphas, batch statistics that are not trivial, decoders that speak."""
    torch.manual_seed(0)
    network = RscNet()
    with torch.no_grad():
        network.backbone.bn1.momentum = 1.0
        for block in network.backbone.blocks:
            for norm in (block.bn1, block.bn2, block.bn3):
                norm.momentum = 1.0
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.uniform_(-0.2, 0.2)
            block.bn3.weight.mul_(0.3)
        for alpha in network.backbone.alphas:
            alpha.uniform_(0.5, 1.5)
        for decoder in (network.regressor.pose, network.regressor.betas, network.regressor.camera):
            decoder.weight.mul_(20)
        network(torch.randn(2, 3, 224, 224), torch.tensor([0, 3]))
    return network.eval()


@pytest.fixture(scope='module')
def image() -> torch.Tensor:
    return torch.randn(5, 3, 224, 224, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope='module')
def mixed(network: RscNet, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What the network gives for five crops of five rows in one batch."""
    with torch.no_grad():
        return network(image, torch.arange(5))


def close(value: torch.Tensor, reference: torch.Tensor, bound: float = 1e-5) -> None:
    """Compare by the largest number, as the sheet does."""
    assert (value - reference).abs().max() < bound * reference.abs().max()


def test_parameter_counts(network: RscNet) -> None:
    """Check 1 and section 8."""
    alphas = parameters(network.backbone.alphas)
    assert alphas == 80 and parameters(network.backbone) - alphas == 23_508_032
    assert parameters(network.regressor) == 3_469_469
    assert parameters(network) == 26_977_581
    assert parameters(network) + parameters(ContrastiveHead()) == 29_338_157


def plain_resnet50(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Pooled feature of the plain network, from its tensors by torchvision's names alone."""
    def convolve(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = state[f'{name}.weight']
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(x, *(
            state[f'{name}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias')))

    x = functional.relu(norm('bn1', convolve('conv1', x, 2)))
    x = functional.max_pool2d(x, 3, 2, 1)
    for layer, count in enumerate((3, 4, 6, 3), start=1):
        for i in range(count):
            name, stride = f'layer{layer}.{i}', 2 if layer > 1 and i == 0 else 1
            y = functional.relu(norm(f'{name}.bn1', convolve(f'{name}.conv1', x)))
            y = functional.relu(norm(f'{name}.bn2', convolve(f'{name}.conv2', y, stride)))
            y = norm(f'{name}.bn3', convolve(f'{name}.conv3', y))
            if i == 0:
                x = norm(f'{name}.downsample.1', convolve(f'{name}.downsample.0', x, stride))
            x = functional.relu(x + y)
    return functional.adaptive_avg_pool2d(x, 1).flatten(1)


def test_alpha_of_ones_is_the_plain_network(network: RscNet, image: torch.Tensor) -> None:
    """Check 2; whatever the row."""
    alphas = torch.nn.ParameterList(torch.ones(16) for _ in range(5))
    kept, network.backbone.alphas = network.backbone.alphas, alphas
    try:
        with torch.no_grad():
            feature = network.backbone(image[:1].expand(5, -1, -1, -1), torch.arange(5))
            reference = plain_resnet50(network.backbone.state_dict(), image[:1])
    finally:
        network.backbone.alphas = kept
    assert feature.shape == (5, 2048) and feature.min() >= 0
    close(feature, reference.expand(5, -1))


def test_alpha_scales_the_residual_branch_only(network: RscNet, image: torch.Tensor) -> None:
    """With alpha = 0 the stem and the shortcuts are all there is."""
    kept, network.backbone.alphas = (
        network.backbone.alphas, torch.nn.ParameterList(torch.zeros(16) for _ in range(5)))
    try:
        with torch.no_grad():
            feature = network.backbone(image[:1], torch.tensor([4]))
            x = network.backbone.stem(image[:1])
            for block in network.backbone.blocks:
                x = functional.relu(block.downsample(x))
    finally:
        network.backbone.alphas = kept
    close(feature, x.mean((2, 3)))
    assert feature.max() > 0


def test_a_mixed_batch_equals_single_crops(
        network: RscNet, image: torch.Tensor, mixed: tuple[torch.Tensor, ...]) -> None:
    """Check 3."""
    with torch.no_grad():
        singles = [network(image[i:i + 1], torch.tensor([i])) for i in range(5)]
    for value, single in zip(mixed, zip(*singles)):
        close(value, torch.cat(single))


def test_engines_equal_the_network(
        network: RscNet, image: torch.Tensor, mixed: tuple[torch.Tensor, ...]) -> None:
    """Check 3: alpha looked up, and alpha folded into the convolutions."""
    with torch.no_grad():
        for value, reference in zip(RowEngine(network)(image, torch.arange(5).int()), mixed):
            close(value, reference)
        for row in (0, 4):
            single = SingleRowEngine(network, row)(image[row:row + 1])
            for value, reference in zip(single, mixed):
                close(value, reference[row:row + 1])


def test_unused_rows_have_no_gradient() -> None:
    """Section 3.4: an optimiser must not move them."""
    network = RscNet().eval()
    row = torch.tensor([3, 1, 3], dtype=torch.int32)
    network.backbone(torch.randn(3, 3, 64, 64), row).sum().backward()
    moved = [alpha.grad is not None for alpha in network.backbone.alphas]
    assert moved == [False, True, False, True, False]
    assert network.backbone.alphas[1].grad.abs().min() > 0


@pytest.mark.parametrize('relu', [True, False])
def test_regressor_is_the_iteration_of_the_sheet(relu: bool) -> None:
    """Section 2.2, in float64 from the tensors alone, and the split form of section 7."""
    torch.manual_seed(2)
    regressor = Regressor(regressor_relu=relu).eval()
    for decoder in (regressor.pose, regressor.betas, regressor.camera):
        torch.nn.init.xavier_uniform_(decoder.weight)
    phi = torch.rand(3, 2048)
    state = {name: value.double() for name, value in regressor.state_dict().items()}
    y = torch.cat([state['init_pose'], state['init_betas'], state['init_camera']]).repeat(3, 1)
    for _ in range(3):
        h = torch.cat([phi.double(), y], 1)
        for layer in ('fc1', 'fc2'):
            h = h @ state[f'{layer}.weight'].T + state[f'{layer}.bias']
            h = h.clamp(min=0) if relu else h
        y = y + torch.cat([h @ state[f'{name}.weight'].T + state[f'{name}.bias']
                           for name in ('pose', 'betas', 'camera')], 1)
    with torch.no_grad():
        for form in (regressor, SplitRegressor(regressor).eval()):
            torch.testing.assert_close(
                torch.cat(form(phi), 1).double(), y, atol=1e-4, rtol=1e-5)
    assert regressor.regressor_relu is relu


def test_training_drops_out_and_starts_from_an_upright_person() -> None:
    regressor = Regressor(features=8)
    first, second = (torch.cat(regressor(torch.ones(2, 8)), 1) for _ in range(2))
    assert not torch.equal(first, second)
    start = regressor.start
    assert start[:6].tolist() == [1, 0, 0, -1, 0, 0] and start[6:12].tolist() == [1, 0, 0, 1, 0, 0]
    np.testing.assert_allclose(start[-3:], [0.9, 0, 0])


@pytest.fixture(scope='module')
def onnx_file(network: RscNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hmr_ros.training.rsc_net.export import export_rsc_net
    return export_rsc_net(network, tmp_path_factory.mktemp('onnx') / 'network.onnx', 'float32')


@pytest.mark.parametrize('rows', [[2], [4, 0, 1], [0, 1, 2, 3, 4]], ids=len)
def test_onnx_equals_torch(
        onnx_file: Path, image: torch.Tensor, mixed: tuple[torch.Tensor, ...],
        rows: list[int]) -> None:
    """Check 10, with mixed rows."""
    import onnxruntime
    session = onnxruntime.InferenceSession(str(onnx_file), providers=['CPUExecutionProvider'])
    values = session.run(['pose6d', 'betas', 'cam', 'feature'], {
        'image': image[rows].numpy(), 'row': np.array(rows, np.int32)})
    for value, reference in zip(values[:3], mixed):
        assert np.abs(value - reference[rows].numpy()).max() < 1e-4
    close(torch.from_numpy(values[3]), mixed[3][rows])


def test_graph_suits_every_engine(onnx_file: Path) -> None:
    """Check 10: one file, no control flow, nothing that asks for the batch size."""
    import onnx
    assert list(onnx_file.parent.iterdir()) == [onnx_file]
    model = onnx.load(onnx_file)
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {'If', 'Loop', 'Where', 'Expand', 'Shape', 'ConstantOfShape', 'Dropout',
                        'BatchNormalization'}
    assert 'Gather' in kinds
    people = [tensor.type.tensor_type.shape.dim[0].dim_param
              for tensor in [*model.graph.input, *model.graph.output]]
    assert people == 6 * ['people']


def test_the_engine_of_one_row_is_a_plain_network(network: RscNet, tmp_path: Path) -> None:
    import onnx
    from hmr_ros.training.rsc_net.export import export_single_row
    folded = onnx.load(export_single_row(network, 4, tmp_path / 'row4.onnx', 'float32'))
    assert [tensor.name for tensor in folded.graph.input] == ['image']
    kinds = {node.op_type for node in folded.graph.node}
    assert not kinds & {'Gather', 'Mul', 'If', 'Loop', 'Where', 'Expand'}


def test_rounded_weights_are_stored_without_loss(
        network: RscNet, image: torch.Tensor, mixed: tuple[torch.Tensor, ...],
        tmp_path: Path) -> None:
    """The small file, with float16 weights, is as close to torch as the large one (check 10)."""
    import onnxruntime
    from hmr_ros.training.rsc_net.export import export_rsc_net
    from hmr_ros.training.rsc_net.rounding import rounded
    network = rounded(network)
    path = export_rsc_net(network, tmp_path / 'half.onnx')
    assert path.stat().st_size < 60e6
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    values = session.run(['pose6d', 'betas', 'cam', 'feature'], {
        'image': image[:2].numpy(), 'row': np.arange(2, dtype=np.int32)})
    with torch.no_grad():
        expected = network(image[:2], torch.arange(2))
    for value, reference, before in zip(values, expected, mixed):
        close(torch.from_numpy(value), reference)
        close(reference, before[:2], 2e-3)
