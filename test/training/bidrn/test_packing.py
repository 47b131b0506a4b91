# SPDX-License-Identifier: Apache-2.0
"""Check 9 of the bidrn sheet: folded layers on packed bits do what their modules do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('numba', reason='layers on packed bits need numba')
torch = pytest.importorskip('torch', reason='the modules are torch')
from torch import nn  # noqa: E402

from hmr_ros.networks.bidrn import build_network, compact, NAMED, Variant, WholeBody  # noqa: E402
from hmr_ros.networks.bidrn.crops import roi_align as plain_roi_align  # noqa: E402
from hmr_ros.networks.bidrn.encoders import BinaryResNet  # noqa: E402
from hmr_ros.networks.bidrn.residuals import FusionDown, LocalResidual  # noqa: E402
from hmr_ros.networks.resnet import ResNetPlan, RESNET18, RESNET50  # noqa: E402
from hmr_ros.runtime.packed_bits import pack, PackedKernel  # noqa: E402
from hmr_ros.runtime.packed_crops import roi_align  # noqa: E402
from hmr_ros.runtime.packed_file import PackedFile, write_packed  # noqa: E402
from hmr_ros.runtime.packed_layers import (  # noqa: E402
    bend_rows, PackedLayer, Signal, Workplace)
from hmr_ros.runtime.packed_network import PackedWholeBody, read_encoder  # noqa: E402
from hmr_ros.training.bidrn.packing import (  # noqa: E402
    encoder_arrays, encoder_plan, layer_arrays, packed_network, write_network)
from hmr_ros.training.errors import TrainingError  # noqa: E402

pytestmark = pytest.mark.torch


def unsettled(module: nn.Module, norm: nn.BatchNorm2d, seed: int) -> nn.Sequential:
    """Give a module and its norm values of all signs, as training may leave them."""
    random = torch.Generator().manual_seed(seed)
    act = module.act
    with torch.no_grad():
        for value, spread in ((act.gamma, 2.0), (act.beta, 1.0), (act.zeta, 0.5),
                              (norm.running_mean, 1.0), (norm.weight, 1.0), (norm.bias, 0.5)):
            value.copy_(spread * torch.randn(len(value), generator=random))
        norm.running_var.copy_(0.2 + torch.rand(len(norm.bias), generator=random))
        module.weight.copy_(0.1 * torch.randn(module.weight.shape, generator=random))
    return nn.Sequential(module, norm).eval()


def packed_layer(module: LocalResidual | FusionDown, norm: nn.BatchNorm2d) -> PackedLayer:
    arrays = layer_arrays(module, norm, 'it')
    channels = module.in_channels // arrays['it.bits'].shape[1]
    return PackedLayer.of(
        PackedKernel.of(arrays['it.bits'], channels, module.kernel_size), arrays['it.bend'],
        arrays['it.keep'], module.stride[0])


def last(x: torch.Tensor) -> np.ndarray:
    """Channels last."""
    return np.ascontiguousarray(x.detach().permute(0, 2, 3, 1).numpy())


def judge(plain: nn.Module, packed: PackedLayer, channels: int) -> None:
    x = 0.8 * torch.randn(2, channels, 8, 6, generator=torch.Generator().manual_seed(7))
    x[:, ::5, ::3] = 0
    with torch.no_grad():
        expected = last(plain(x))
    for threads in (1, 2):
        place = Workplace(threads)
        found = packed(place, Signal.of(last(x)))
        place.close()
        assert found.values.dtype == np.float32 and found.values.shape == expected.shape
        assert np.abs(found.values - expected).max() <= 1e-5 * np.abs(expected).max()
        clear = np.abs(expected) > 1e-4
        assert clear.mean() > 0.99
        np.testing.assert_array_equal((found.values >= 0)[clear], (expected >= 0)[clear])
        np.testing.assert_array_equal(found.bits, pack(found.values))


@pytest.mark.parametrize(('channels', 'out', 'kernel', 'stride'), [
    (64, 64, 3, 1), (64, 64, 1, 1), (128, 128, 3, 2), (64, 256, 1, 1), (64, 128, 3, 2),
    (48, 48, 3, 1), (48, 96, 3, 2), (192, 384, 3, 1)])
def test_local_residuals(channels: int, out: int, kernel: int, stride: int) -> None:
    module, norm = LocalResidual(channels, out, kernel, stride), nn.BatchNorm2d(out)
    judge(unsettled(module, norm, out + stride), packed_layer(module, norm), channels)


@pytest.mark.parametrize('ratio', [2, 4])
def test_fusions(ratio: int) -> None:
    module, norm = FusionDown(64 * ratio, 64, 1), nn.BatchNorm2d(64)
    judge(unsettled(module, norm, ratio), packed_layer(module, norm), 64 * ratio)


def test_branches_of_parts_of_words_are_refused() -> None:
    with pytest.raises(TrainingError, match='branches of 48 channels.*multiples of 64'):
        layer_arrays(FusionDown(96, 48, 1), nn.BatchNorm2d(48), 'it')


def test_a_channel_without_weights_gives_what_nothing_gives() -> None:
    module, norm = LocalResidual(64, 64, 3), nn.BatchNorm2d(64)
    plain = unsettled(module, norm, 3)
    with torch.no_grad():
        module.weight[:4] = 0
        module.act.gamma[:4] = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    judge(plain, packed_layer(module, norm), 64)


def test_the_line_changes_where_the_activation_does() -> None:
    threshold, *lines = bend_rows(
        np.array([0.5]), (np.array([2.0]), np.array([0.1]), np.array([0.3])))
    assert threshold == 4
    for line, offset in (lines[:2], lines[2:]):
        assert 4 * line + offset == pytest.approx(0.3)


def settle(network: nn.Module, look, *size: int) -> None:
    """Let norms know what they see, with bends and lines of all signs."""
    random = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, mode='fan_out', generator=random)
        for value in getattr(module, 'act', nn.Module()).parameters():
            value.data += 0.3 * torch.randn(len(value), generator=random)
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data += 0.2 * torch.randn(len(module.bias), generator=random)
    with torch.no_grad():
        for _ in range(2):
            look(torch.rand(2, 3, *size, generator=random))
    network.eval()


@pytest.mark.parametrize('plan', [RESNET18, RESNET50, compact('bidrn').sizes.face_net])
def test_an_encoder_block_by_block(plan: ResNetPlan, tmp_path: Path) -> None:
    """Bits flip where sums are rounded otherwise, so each block is judged on what the net sees."""
    network = BinaryResNet(plan, Variant())
    settle(network, network.last_map, 64, 64)
    blocks = encoder_plan(network)
    write_packed(tmp_path / 'it', {}, encoder_arrays(network, 'it'), 'float32')
    packed = read_encoder(PackedFile((tmp_path / 'it').read_bytes(), tmp_path), 'it', blocks)
    place = Workplace()
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        x = network.maxpool(network.bn1(network.conv1(image)))
        np.testing.assert_allclose(
            packed.stem(place, image.numpy()).values, last(x), atol=1e-5)
        plain = [block for name in ('layer1', 'layer2', 'layer3', 'layer4')
                 for block in network.get_submodule(name)]
        assert len(plain) == len(packed.blocks)
        for block, ours in zip(plain, packed.blocks):
            expected = block(x)
            off = np.abs(ours(place, Signal.of(last(x))).values - last(expected))
            assert np.mean(off <= 1e-4 * float(expected.abs().max())) > 0.99
            x = expected
    assert packed(place, image.numpy()).shape == last(x).shape


# ---- crops and the whole network

@pytest.mark.parametrize('box', [
    (3.0, 4.0, 20.0, 21.0), (-8.5, 2.2, 30.1, 40.8), (5.0, 5.0, 5.2, 5.2),
    (-60.0, -60.0, 80.0, 80.0),
    (30.0, 40.0, 33.0, 43.0), (60.0, 60.0, 90.0, 90.0)])
def test_crops_are_those_of_the_network(box: tuple[float, ...]) -> None:
    image = torch.rand(1, 3, 48, 36, generator=torch.Generator().manual_seed(1))
    expected = plain_roi_align(image, torch.tensor([box]), 16)[0].numpy()
    np.testing.assert_allclose(
        roi_align(image[0].numpy(), np.float32(box), 16), expected, atol=2e-5)


def test_crops_of_huge_boxes_are_sampled_as_thinly_as_torch_does() -> None:
    image = torch.rand(1, 3, 48, 36, generator=torch.Generator().manual_seed(0))
    box = [-3e3, -4e3, 3e3, 2e3]
    expected = plain_roi_align(image, torch.tensor([box]), 16)[0].numpy()
    np.testing.assert_allclose(
        roi_align(image[0].numpy(), np.float32(box), 16), expected, atol=2e-5)


@pytest.fixture(scope='module', params=['none', 'full', 'binary'])
def whole(request: pytest.FixtureRequest) -> WholeBody:
    network = build_network(replace(compact('bidrn'), box_deconv3=request.param))
    settle(network, network, *network.variant.sizes.image)
    with torch.no_grad():
        # As far apart as bodies' parts are, not all in the middle.
        for layer in (network.body_position_net, network.hand_position_net):
            layer.conv[0].weight *= 3
        for part, bias in (('lhand', 1.0), ('rhand', 1.5), ('face', 2.0)):
            getattr(network.box_net, f'{part}_size')[2].bias.fill_(bias)
    return network


def packed(network: WholeBody, folder: Path, weights: str = 'float32') -> PackedWholeBody:
    write_network(network, folder / 'it', weights)
    return PackedWholeBody(PackedFile((folder / 'it').read_bytes(), folder / 'it'), Workplace())


def test_a_whole_network_on_the_same_maps(
        whole: WholeBody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch reads the very maps that the packed encoders gave, so no flipped bit comes between."""
    ours, maps = packed(whole, tmp_path), {}
    encode = ours.encode

    def noted(name: str, image: np.ndarray) -> np.ndarray:
        maps[name] = encode(name, image)
        return maps[name]
    monkeypatch.setattr(ours, 'encode', noted)
    random = torch.Generator().manual_seed(5)
    image = torch.rand(2, 3, *whole.variant.sizes.image, generator=random)
    found = ours(image.numpy())
    for name, encoder in (('body', whole.backbone), ('hand', whole.hand_roi_net.backbone),
                          ('face', whole.face_roi_net.backbone)):
        monkeypatch.setattr(encoder, 'last_map', lambda _, name=name: torch.from_numpy(
            maps[name]).permute(0, 3, 1, 2))
    with torch.no_grad():
        expected = whole(image)._asdict()
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == np.float32 and found[name].shape == tuple(value.shape)
        off = np.abs(found[name] - value.numpy()).max()
        assert off <= 1e-3 * float(value.abs().max()), name


def test_a_whole_network_is_as_near_as_a_rounded_image(whole: WholeBody, tmp_path: Path) -> None:
    """A random network turns any rounding into flipped bits; packing does it no more than that."""
    ours = packed(whole, tmp_path)
    random = torch.Generator().manual_seed(5)
    image = torch.rand(4, 3, *whole.variant.sizes.image, generator=random)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        expected, moved = whole(image)._asdict(), whole(image + 1e-5 * noise)._asdict()
    found = ours(image.numpy())
    for name, value in expected.items():
        ours_off = float(np.square(found[name] - value.numpy()).mean())
        theirs = float((moved[name] - value).square().mean())
        assert ours_off <= 3 * theirs + 1e-10, name


def test_a_published_network_fits_forty_megabytes(tmp_path: Path) -> None:
    network = build_network(NAMED['bidrn']).eval()
    write_network(network, tmp_path / 'it')
    size = (tmp_path / 'it').stat().st_size
    counted = 62_791_680 / 8 + 2 * 15_254_096
    assert counted < size <= 40e6


def test_float16_moves_weights_by_their_last_bits(whole: WholeBody, tmp_path: Path) -> None:
    header, arrays = packed_network(whole)
    write_packed(tmp_path / 'it', header, arrays)
    file = PackedFile((tmp_path / 'it').read_bytes(), tmp_path / 'it')
    for name, array in arrays.items():
        if array.dtype == np.uint64:
            np.testing.assert_array_equal(file.words(name, *array.shape), array)
        else:
            np.testing.assert_allclose(
                file.numbers(name, *array.shape), array, rtol=2 ** -11, atol=1e-7)


@pytest.mark.parametrize('row', ['no_shortcut', 'body_only', 'hand4whole', 'bnn'])
def test_other_networks_are_refused(row: str) -> None:
    with torch.device('meta'):
        network = WholeBody(compact(row))
    with pytest.raises(TrainingError, match='export this one to ONNX'):
        packed_network(network)
