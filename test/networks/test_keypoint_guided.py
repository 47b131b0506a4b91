# SPDX-License-Identifier: Apache-2.0
"""keypoint_guided against its sheet, checks 1 to 6."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from hmr_ros.networks.keypoint_guided import KeypointGuided, MGFENet, Variant  # noqa: E402
from hmr_ros.networks.keypoint_guided.deploy import deployable  # noqa: E402
from hmr_ros.networks.keypoint_guided.heads import FoldedTrunk, ScaleNorm, Trunk  # noqa: E402
from hmr_ros.networks.keypoint_guided.mgfenet import CASCADE_CHANNELS, gate, pool  # noqa: E402
from hmr_ros.networks.keypoint_guided.spectral_filter import (  # noqa: E402
    MatmulSpectralFilter, SpectralFilter)

pytestmark = pytest.mark.torch
FILTERS = [(16, 128), (16, 128), (24, 64), (24, 64), (40, 32), (40, 32), (40, 32), (80, 16),
           (80, 16), (80, 16), (80, 16), (112, 16), (112, 16), (160, 16), (160, 8)]


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope='module')
def network() -> KeypointGuided:
    """Random weights with batch statistics that are not trivial."""
    torch.manual_seed(0)
    network = KeypointGuided()
    with torch.no_grad():
        network(torch.randn(2, 3, 256, 256))
    return network.eval()


def test_parameter_counts(network: KeypointGuided) -> None:
    """Check 1."""
    spectral = sum(p.numel() for name, p in network.backbone.named_parameters()
                   if 'complex_weight' in name)
    assert parameters(network.backbone) == 4_664_423
    assert spectral == 1_081_344
    assert parameters(network.tokens.conv) == 4_515_936
    assert parameters(network.attention) == 426_753
    assert parameters(network.trunk) == 2_356_283
    assert parameters(network) == 11_981_316


@pytest.mark.parametrize('variant, backbone_size, whole, features', [
    (Variant('resnet34'), 21_284_672, 26_145, 768),
    (Variant('hrnet_w48'), 75_420_864, 89_079, 2304),
    (Variant('resnet34', 29), 21_284_672, 24_201, 512)], ids=str)
def test_other_variants_have_the_size_of_the_sheet(
        variant: Variant, backbone_size: int, whole: int, features: int) -> None:
    """Section 8; the sheet's totals, in thousands, include the flows."""
    network = KeypointGuided(variant)
    flows = 53_784 + 55_332
    assert parameters(network.backbone) == backbone_size
    assert round((parameters(network) + flows) / 1000) == whole
    with torch.no_grad():
        prediction = network.eval()(torch.zeros(1, 3, 256, 256))
    assert prediction.uvd.shape == (1, variant.tokens, 3)
    assert prediction.feature.shape == (1, features)


def test_shapes_and_cascade(network: KeypointGuided) -> None:
    """Check 2."""
    seen = []
    hooks = [block.register_forward_pre_hook(lambda _, args: seen.append(args[1].shape[1]))
             for block in network.backbone.blocks if block.stride == 1]
    with torch.no_grad():
        f = network.backbone(torch.randn(2, 3, 256, 256))
        prediction = network.decode(f)
    for hook in hooks:
        hook.remove()
    assert f.shape == (2, 960, 8, 8) and f.min() >= 0
    assert sorted(set(seen)) == list(CASCADE_CHANNELS[:-1])
    assert network.backbone.head.in_channels == CASCADE_CHANNELS[-1]
    shapes = {name: tuple(value.shape) for name, value in prediction._asdict().items()}
    assert shapes == {
        'uvd': (2, 96, 3), 'sigma': (2, 96, 3), 'phi': (2, 23, 2), 'betas': (2, 10),
        'cam': (2, 3), 'feature': (2, 1216)}
    assert 0 < prediction.sigma.min() and prediction.sigma.max() <= 1


def test_convolution_cost(network: KeypointGuided) -> None:
    """Check 3: multiply-accumulates of the convolutions at 256x256."""
    cost = {}

    def count(name: str) -> object:
        def hook(conv: torch.nn.Conv2d, _: object, out: torch.Tensor) -> None:
            cost[name] = out[0].numel() * conv.weight[0].numel()
        return hook

    hooks = [module.register_forward_hook(count(name)) for name, module in network.named_modules()
             if isinstance(module, torch.nn.Conv2d)]
    with torch.no_grad():
        network(torch.zeros(1, 3, 256, 256))
    for hook in hooks:
        hook.remove()
    backbone = sum(value for name, value in cost.items() if name.startswith('backbone'))
    assert backbone == pytest.approx(443.24e6, rel=1e-3)
    assert cost['tokens.conv'] == pytest.approx(289.0e6, rel=1e-3)


@pytest.mark.parametrize('channels, size', sorted(set(FILTERS)))
def test_matmul_filter_equals_fft(channels: int, size: int) -> None:
    """Check 4, with K that is not Hermitian."""
    torch.manual_seed(size)
    source = SpectralFilter(channels, size)
    x = torch.randn(2, channels, size, size)
    with torch.no_grad():
        torch.testing.assert_close(MatmulSpectralFilter(source)(x), source(x), atol=2e-6, rtol=0)


def test_filters_are_those_of_the_sheet() -> None:
    blocks = MGFENet().blocks
    assert [(block.filter.complex_weight.shape[0], block.filter.size) for block in blocks] \
        == FILTERS


def test_filter_is_circular_convolution() -> None:
    """Check 4: kernel irfft2(K), plus identity."""
    torch.manual_seed(1)
    source = SpectralFilter(3, 16)
    kernel = torch.fft.irfft2(torch.view_as_complex(source.complex_weight), s=(16, 16))
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        y = source(x)[0]
        for row, column in np.random.default_rng(0).integers(16, size=(5, 2)):
            rolled = torch.roll(kernel.flip(1, 2), (int(row) + 1, int(column) + 1), (1, 2))
            expected = x[0, :, row, column] + (rolled * x[0]).sum((1, 2))
            torch.testing.assert_close(y[:, row, column], expected, atol=1e-5, rtol=0)


def test_smaller_crops_use_the_same_frequencies() -> None:
    """A picture that is constant under 2x2 tiling is filtered alike at both sizes."""
    torch.manual_seed(2)
    source = SpectralFilter(4, 32)
    x = torch.randn(1, 4, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(source(x.tile(2, 2)), source(x).tile(2, 2), atol=1e-5, rtol=0)


def test_trunk_folds_and_small_parts_are_exact() -> None:
    """Check 6."""
    torch.manual_seed(3)
    trunk, pooled = Trunk(1216).eval(), torch.randn(4, 1216)
    for part in (trunk.fc1, trunk.fc2):
        torch.nn.init.xavier_uniform_(part.weight)
    with torch.no_grad():
        for folded, full in zip(FoldedTrunk(trunk)(pooled), trunk(pooled)):
            torch.testing.assert_close(folded, full, atol=1e-5, rtol=1e-5)
        norm = ScaleNorm(64)
        norm.g.fill_(-1.7)
        rms = norm(torch.randn(5, 64)).pow(2).mean(-1).sqrt()
    torch.testing.assert_close(rms, torch.full((5,), 1.7))
    values = torch.tensor([-2, -1, 0, .5, 1, 2])
    torch.testing.assert_close(gate(values), torch.tensor([0, 0, .5, .75, 1, 1]))
    ones = pool(torch.ones(1, 1, 8, 8))[0, 0]
    assert ones[0, 0] == pytest.approx(4 / 9) and ones[0, 1] == pytest.approx(6 / 9)
    assert ones[1, 1] == pytest.approx(1)


def test_deployable_blocks_fill_the_vectors(network: KeypointGuided) -> None:
    """Depth-wise kernels of runtimes take whole vectors only; the added channels are zero."""
    for block, sheet in zip(deployable(network).backbone.blocks, network.backbone.blocks):
        depthwise, before = block.depthwise[0], sheet.depthwise[0].out_channels
        assert depthwise.out_channels % 16 == 0 and depthwise.groups == depthwise.out_channels
        assert before <= depthwise.out_channels < before + 16
        first = sheet.expand[0].out_channels
        added = slice(first, first + depthwise.out_channels - before)
        assert not depthwise.weight[added].any() and not block.project[0].weight[:, added].any()


def test_deployable_network_equals_the_trained_one(network: KeypointGuided) -> None:
    image = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        for deployed, full in zip(deployable(network)(image), network(image)):
            torch.testing.assert_close(deployed, full, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope='module')
def onnx_file(network: KeypointGuided, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from hmr_ros.training.keypoint_guided.export import export_onnx
    return export_onnx(network, tmp_path_factory.mktemp('onnx') / 'network.onnx', 'float32')


@pytest.mark.parametrize('people', [1, 3, 8])
def test_onnx_equals_torch(network: KeypointGuided, onnx_file: Path, people: int) -> None:
    """Check 5."""
    import onnxruntime
    session = onnxruntime.InferenceSession(str(onnx_file), providers=['CPUExecutionProvider'])
    image = torch.randn(people, 3, 256, 256)
    with torch.no_grad():
        expected = network(image)
    for value, reference in zip(session.run(None, {'image': image.numpy()}), expected):
        assert np.abs(value - reference.numpy()).max() < 1e-4 * max(1, reference.abs().max())


def test_graph_suits_every_engine(onnx_file: Path) -> None:
    """Check 5: no operator that TensorRT lacks, a batch without fixed size."""
    import onnx
    model = onnx.load(onnx_file)
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {'DFT', 'Loop', 'If', 'Dropout', 'BatchNormalization', 'Einsum', 'Resize'}
    assert model.opset_import[0].version >= 17
    for tensor in [*model.graph.input, *model.graph.output]:
        people, *sizes = tensor.type.tensor_type.shape.dim
        assert people.dim_param == 'people' and all(size.dim_value > 0 for size in sizes)


def test_float16_storage_rounds_weights_only(network: KeypointGuided, tmp_path: Path) -> None:
    """The stored file computes what float32 computes with weights rounded to float16."""
    import onnx
    import onnxruntime
    from hmr_ros.training.keypoint_guided.export import export_onnx
    half = export_onnx(network, tmp_path / 'half.onnx')
    assert half.stat().st_size < 25e6
    full = onnx.load(export_onnx(network, tmp_path / 'full.onnx', 'float32'))
    stored = {t.name.removesuffix('_float16') for t in onnx.load(half).graph.initializer
              if t.data_type == onnx.TensorProto.FLOAT16}
    for tensor in full.graph.initializer:
        if tensor.name in stored:
            rounded = onnx.numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
    onnx.save(full, tmp_path / 'rounded.onnx')
    image = {'image': np.random.default_rng(0).normal(size=(1, 3, 256, 256)).astype(np.float32)}
    results = [
        onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider']).run(None, image)
        for path in (half, tmp_path / 'rounded.onnx')]
    for value, expected in zip(*results):
        np.testing.assert_allclose(value, expected, atol=1e-5, rtol=1e-4)
