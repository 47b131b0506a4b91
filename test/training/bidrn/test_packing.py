# SPDX-License-Identifier: Apache-2.0
"""Check 9 of the bidrn sheet: folded layers on packed bits do what their modules do."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('numba', reason='layers on packed bits need numba')
torch = pytest.importorskip('torch', reason='the modules are torch')
from torch import nn  # noqa: E402

from hmr_ros.networks.bidrn import NAMED, Variant  # noqa: E402
from hmr_ros.networks.bidrn.encoders import BinaryResNet  # noqa: E402
from hmr_ros.networks.bidrn.residuals import FusionDown, LocalResidual  # noqa: E402
from hmr_ros.networks.resnet import ResNetPlan, RESNET18, RESNET50  # noqa: E402
from hmr_ros.runtime.packed_bits import pack  # noqa: E402
from hmr_ros.runtime.packed_layers import Bend, Signal  # noqa: E402
from hmr_ros.training.bidrn.packing import (  # noqa: E402
    packed_encoder, packed_fusion, packed_residual)
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


def inputs(channels: int) -> torch.Tensor:
    x = 0.8 * torch.randn(2, channels, 8, 6, generator=torch.Generator().manual_seed(7))
    x[:, ::5, ::3] = 0
    return x


def judge(plain: nn.Module, packed, channels: int) -> None:
    x = inputs(channels)
    with torch.no_grad():
        expected = plain(x).permute(0, 2, 3, 1).numpy()
    found = packed(Signal.of(x.permute(0, 2, 3, 1).numpy()))
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    clear = np.abs(expected) > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear] >= 0, expected[clear] >= 0)
    assert pack(found).shape[-1] == -(-found.shape[-1] // 64)


@pytest.mark.parametrize(('channels', 'out', 'kernel', 'stride'), [
    (64, 64, 3, 1), (64, 64, 1, 1), (128, 128, 3, 2), (64, 256, 1, 1), (64, 128, 3, 2)])
def test_local_residuals(channels: int, out: int, kernel: int, stride: int) -> None:
    module, norm = LocalResidual(channels, out, kernel, stride), nn.BatchNorm2d(out)
    judge(unsettled(module, norm, out + stride), packed_residual(module, norm), channels)


@pytest.mark.parametrize('ratio', [2, 4])
def test_fusions(ratio: int) -> None:
    module, norm = FusionDown(64 * ratio, 64, 1), nn.BatchNorm2d(64)
    judge(unsettled(module, norm, ratio), packed_fusion(module, norm), 64 * ratio)


def test_a_channel_without_weights_gives_what_nothing_gives() -> None:
    module, norm = LocalResidual(64, 64, 3), nn.BatchNorm2d(64)
    plain = unsettled(module, norm, 3)
    with torch.no_grad():
        module.weight[:4] = 0
        module.act.gamma[:4] = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    judge(plain, packed_residual(module, norm), 64)


def test_the_line_changes_where_the_activation_does() -> None:
    bend = Bend.of(np.array([0.5]), (np.array([2.0]), np.array([0.1]), np.array([0.3])))
    assert bend.threshold == 4
    for line, offset in ((bend.above, bend.above_offset), (bend.below, bend.below_offset)):
        assert 4 * line + offset == pytest.approx(0.3)


def settled(plan: ResNetPlan) -> BinaryResNet:
    """An encoder whose norms know what they see."""
    torch.manual_seed(0)
    network = BinaryResNet(plan, Variant())
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode='fan_out')
    with torch.no_grad():
        for seed in range(3):
            random = torch.Generator().manual_seed(seed)
            network.last_map(torch.rand(2, 3, 64, 64, generator=random))
    return network.eval()


@pytest.mark.parametrize('plan', [RESNET18, RESNET50])
def test_an_encoder_block_by_block(plan: ResNetPlan) -> None:
    """Bits flip where sums are rounded otherwise, so each block is judged on what the net sees."""
    network = settled(plan)
    packed = packed_encoder(network)
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        x = network.maxpool(network.bn1(network.conv1(image)))
        np.testing.assert_allclose(
            packed.stem(image.numpy()), x.permute(0, 2, 3, 1).numpy(), atol=1e-5)
        blocks = [block for name in ('layer1', 'layer2', 'layer3', 'layer4')
                  for block in network.get_submodule(name)]
        assert len(blocks) == len(packed.blocks)
        for plain, block in zip(blocks, packed.blocks):
            expected = plain(x)
            found = block(np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy()))
            off = np.abs(found - expected.permute(0, 2, 3, 1).numpy())
            assert np.mean(off <= 1e-4 * float(expected.abs().max())) > 0.99
            x = expected
        whole = packed(image.numpy())
    assert whole.shape == tuple(x.shape)
    assert np.corrcoef(whole.ravel(), x.numpy().ravel())[0, 1] > 0.95


def test_other_encoders_are_refused() -> None:
    with torch.device('meta'):
        network = BinaryResNet(RESNET18, NAMED['no_shortcut'])
    with pytest.raises(TrainingError, match='choose bidrn'):
        packed_encoder(network)
