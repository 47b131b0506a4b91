# SPDX-License-Identifier: Apache-2.0
"""The lossless block of mgil against its sheet, checks 1, 2, 3, 5 and 6."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from hmr_ros.networks.mgil import Downsampling  # noqa: E402
from hmr_ros.networks.mgil.block import (  # noqa: E402
    channel_to_space, Gate, gate_kernel, MultiRate, space_to_channel, SpaceToChannel)
from hmr_ros.networks.mgil.deploy import deployable, folded_conv  # noqa: E402
from hmr_ros.networks.mgil.downsampling import replace_downsampling, strided_layers  # noqa: E402

pytestmark = pytest.mark.torch
KINDS = (Downsampling(), Downsampling('spd'), Downsampling('flie', n_flie=3),
         Downsampling(n_flie=1, n_cii=1, fusion='add'), Downsampling(gate='pointwise'),
         Downsampling('control'))
#: accuracy of check 2.
BOUND = {torch.float32: 1e-5, torch.float64: 1e-12}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_order_of_the_blocks() -> None:
    """Check 1."""
    blocks = space_to_channel(torch.arange(16.).reshape(1, 1, 4, 4))[0]
    assert blocks.tolist() == [
        [[0, 2], [8, 10]], [[4, 6], [12, 14]], [[1, 3], [9, 11]], [[5, 7], [13, 15]]]
    assert space_to_channel(torch.arange(8.).reshape(1, 2, 2, 2)).flatten().tolist() == [
        0, 4, 2, 6, 1, 5, 3, 7]


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5),
       st.integers(0, 2 ** 32 - 1))
def test_nothing_is_lost(count: int, channels: int, rows: int, columns: int, seed: int) -> None:
    """Check 1: bit for bit, NaN and infinity too."""
    bits = torch.randint(-2 ** 31, 2 ** 31, (count, channels, 2 * rows, 2 * columns),
                         generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
    back = channel_to_space(space_to_channel(bits.view(torch.float32)))
    assert torch.equal(back.view(torch.int32), bits)


@pytest.mark.parametrize('dtype', BOUND)
def test_the_rearrangement_folds_into_the_convolution(dtype: torch.dtype) -> None:
    """Check 2."""
    torch.manual_seed(0)
    # The stem's channels: unit normals of many more would round to more than the bound.
    conv = nn.Conv2d(4 * 3, 7, 3, padding=1, bias=False, dtype=dtype)
    nn.init.normal_(conv.weight)
    x = torch.randn(2, 3, 12, 16, dtype=dtype)
    folded = folded_conv(conv)
    assert (folded.kernel_size, folded.stride, folded.padding) == ((6, 6), (2, 2), (2, 2))
    assert (folded(x) - conv(space_to_channel(x))).abs().max() <= BOUND[dtype]


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize('size', [(5, 6), (7, 8), (1, 1), (2, 1)])
def test_sizes_are_those_of_what_is_replaced(kind: Downsampling, size: tuple[int, int]) -> None:
    """Check 3."""
    layer, x = kind.layer(4, 8, nn.ReLU).eval(), torch.randn(2, 4, *size)
    expected = nn.Conv2d(4, 8, 3, 2, 1)(x).shape
    assert layer(x).shape == expected
    assert functional.max_pool2d(x, 3, 2, 1).shape[2:] == expected[2:]


def test_odd_maps_get_zeros_below_and_right() -> None:
    x = torch.randn(1, 1, 3, 5)
    back = channel_to_space(SpaceToChannel()(x))
    assert torch.equal(back[..., :3, :5], x)
    assert not back[..., 3, :].any() and not back[..., 5].any()


@pytest.mark.parametrize('channels, out', [(3, 64), (32, 32), (64, 128), (128, 256)])
def test_size_and_names_of_a_block(channels: int, out: int) -> None:
    """Section 2: the law of its parameters, and 45 tensors."""
    block = Downsampling().layer(channels, out, nn.ReLU)
    assert parameters(block) == (
        36 * out * (channels + out) + 14 * out + 2 + gate_kernel(2 * out))
    names = block.state_dict()
    assert len(names) == 45
    convolutions = [f'{part}.{i}' for part, count in (('flie', 2), ('mrie', 3), ('cii', 2))
                    for i in range(count)]
    for name in convolutions:
        assert {f'{name}.conv.weight', f'{name}.bn.running_var'} <= set(names)
    assert names['mgaf.conv.weight'].shape == (1, 1, 1, gate_kernel(2 * out))
    assert names['mgaf.fc.weight'].shape == (2, 2 * out)


@pytest.mark.parametrize('channels, kernel', [
    (16, 3), (32, 3), (48, 3), (64, 5), (128, 5), (256, 5), (512, 5), (1024, 7)])
def test_width_of_the_gate(channels: int, kernel: int) -> None:
    """Check 5 and section 2; the sheet's check names Cout."""
    assert gate_kernel(2 * channels) == kernel


@pytest.mark.parametrize('form', ['eca', 'pointwise'])
def test_gate_starts_at_one_half_and_weighs(form: str) -> None:
    """Check 5."""
    torch.manual_seed(2)
    gate, fine, coarse = Gate(32, form), torch.rand(6, 32, 4, 4), torch.rand(6, 32, 4, 4)
    assert torch.equal(gate(fine, coarse), torch.full((6, 2), 0.5))
    nn.init.normal_(gate.fc.weight)
    weights = gate(fine, coarse)
    assert weights.shape == (6, 2) and weights.min() >= 0 and weights.std(0).min() > 1e-3
    torch.testing.assert_close(weights.sum(1), torch.ones(6), atol=1e-6, rtol=0)


def test_gate_starts_alive() -> None:
    """Check 5."""
    fine, coarse = torch.rand(50, 64, 3, 3), torch.rand(50, 64, 3, 3)
    assert (Gate(64, 'eca').seen(fine, coarse) > 0).float().mean() >= 0.95


def test_gate_convolves_along_the_channels() -> None:
    """Against a one-dimensional convolution over the pooled channels of both maps."""
    torch.manual_seed(3)
    gate, maps = Gate(64, 'eca'), torch.randn(3, 128, 2, 4)
    nn.init.normal_(gate.conv.weight)
    pooled = functional.adaptive_avg_pool2d(maps, 1).flatten(1)
    expected = functional.conv1d(pooled[:, None], gate.conv.weight[:, 0], padding=2)[:, 0].relu()
    torch.testing.assert_close(gate.seen(*maps.split(64, 1)), expected)


def test_equal_maps_come_back() -> None:
    """Check 5: whatever the gate says."""
    torch.manual_seed(4)
    block = Downsampling().layer(3, 32, nn.ReLU).eval()
    nn.init.normal_(block.mgaf.fc.weight)
    block.mrie, block.cii = nn.Identity(), nn.Identity()
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(block(x), block.flie(space_to_channel(x)))


def test_rates_see_further_and_keep_the_size() -> None:
    """Check 6: widths 16, 8, 8, rates 1, 2, 3; on one pixel the centre taps are all."""
    torch.manual_seed(5)
    rates = MultiRate(32, nn.ReLU).eval()
    assert [branch.conv.out_channels for branch in rates] == [16, 8, 8]
    assert sum(branch.conv.weight.numel() for branch in rates) == 9 * 32 ** 2
    for size in (1, 2, 3, 16):
        assert rates(torch.randn(2, 32, size, size)).shape == (2, 32, size, size)
    for branch, reach in zip(rates, (1, 2, 3)):
        dot = torch.zeros(1, 32, 9, 9)
        dot[..., 4, 4] = 1
        touched = branch.conv(dot).abs().sum((0, 1)).nonzero()
        assert (touched - 4).abs().unique().tolist() == [0, reach]
    x = torch.randn(2, 32, 1, 1)
    centre = torch.cat([branch.bn(functional.conv2d(x, branch.conv.weight[..., 1:2, 1:2])).relu()
                        for branch in rates], 1)
    torch.testing.assert_close(rates(x), centre)


class Host(nn.Module):
    """Two strided convolutions, a shortcut and a stride-1 pool, as hosts have them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        self.shortcut = nn.Conv2d(8, 8, 1, 2, bias=False)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.pool(self.deep(x) + self.shortcut(x))


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_only_wide_strided_layers_are_replaced(kind: Downsampling) -> None:
    host, before = Host(), Host().state_dict()
    expected = host(torch.randn(2, 3, 32, 32)).shape
    assert strided_layers(host) == ['conv1', 'deep.0']
    assert replace_downsampling(host, kind) == ['conv1', 'deep.0']
    kept = set(before) - {'conv1.weight', 'deep.0.weight'}
    assert kept <= set(host.state_dict()) and not before.keys() - kept & host.state_dict().keys()
    assert host(torch.randn(2, 3, 32, 32)).shape == expected


def test_strided_changes_nothing() -> None:
    host = Host()
    names = list(host.state_dict())
    assert replace_downsampling(host, Downsampling('strided')) == []
    assert list(host.state_dict()) == names


def test_activation_is_the_hosts() -> None:
    host = Host()
    replace_downsampling(host, Downsampling(), nn.SiLU)
    kinds = {type(module.act) for module in host.modules() if hasattr(module, 'act')}
    assert kinds == {nn.SiLU}


@pytest.mark.parametrize('values', [
    {'kind': 'pooled'}, {'fusion': 'cat'}, {'gate': 'se'}, {'scope': 'some'}, {'n_flie': 0},
    {'n_cii': 4}])
def test_unknown_kinds_are_refused_by_name(values: dict[str, object]) -> None:
    name, = values
    with pytest.raises(ValueError, match=f'{name} of the downsampling .* allowed'):
        Downsampling(**values)


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_deployable_host_equals_the_trained_one(settled, kind: Downsampling) -> None:
    torch.manual_seed(6)
    host = Host()
    replace_downsampling(host, kind)
    settled(host)
    x = torch.randn(3, 3, 32, 32)
    deployed = deployable(host)
    assert not any(isinstance(module, SpaceToChannel) for module in deployed.modules())
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), host(x), atol=1e-5, rtol=1e-4)
