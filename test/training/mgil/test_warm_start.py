# SPDX-License-Identifier: Apache-2.0
"""What a strided network knows goes into the layers that take its strided ones' place."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')

from hmr_ros.networks.mgil import build_pose, NAMED, square  # noqa: E402
from hmr_ros.networks.mgil.block import SpaceToChannel  # noqa: E402
from hmr_ros.training.checkpoint_file import transfer  # noqa: E402
from hmr_ros.training.mgil.warm_start import embedded_kernel, embedded_state  # noqa: E402

pytestmark = pytest.mark.torch


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9),
       st.sampled_from([(torch.float32, 1e-5), (torch.float64, 1e-12)]), st.integers(0, 2 ** 31))
def test_an_embedded_kernel_does_what_the_strided_one_did(
        channels: int, out: int, height: int, width: int, precision: tuple[torch.dtype, float],
        seed: int) -> None:
    """Sheet, check 2: on maps of even and odd sizes."""
    dtype, bound = precision
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(2, channels, height, width, generator=draw, dtype=dtype)
    kernel = torch.randn(out, channels, 3, 3, generator=draw, dtype=dtype)
    expected = torch.nn.functional.conv2d(x, kernel, stride=2, padding=1)
    found = torch.nn.functional.conv2d(
        SpaceToChannel()(x), embedded_kernel(kernel), padding=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=bound)
    embedded = embedded_kernel(kernel)
    assert embedded.shape == (out, 4 * channels, 3, 3)
    assert embedded.count_nonzero() * 4 == embedded.numel(), 'a quarter of the taps'


def strided(backbone: str = 'small') -> torch.nn.Module:
    torch.manual_seed(0)
    return build_pose(square(backbone, NAMED['strided'], 32))


def test_spd_begins_as_exactly_the_strided_network(settled) -> None:
    host = settled(strided())
    torch.manual_seed(1)
    network = build_pose(square('small', NAMED['spd'], 32)).eval()
    done = transfer(embedded_state(host.state_dict(), network), network)
    assert not done.refused and not done.fresh
    image = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        for found, expected in zip(network(image), host(image)):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind, fresh', [
    ('flie', ('flie.0.bn.', 'flie.1.')), ('control', ('fine.0.bn.', 'fine.1.', 'coarse.')),
    ('mgil', ('flie.0.bn.', 'flie.1.', 'mrie.', 'cii.', 'mgaf.'))])
def test_other_layers_begin_with_the_kernel_and_are_fresh_behind_it(
        kind: str, fresh: tuple[str, ...]) -> None:
    host, network = strided(), build_pose(square('small', NAMED[kind], 32))
    state = host.state_dict()
    done = transfer(embedded_state(state, network), network)
    assert not done.refused
    assert done.fresh and all(any(part in name for part in fresh) for name in done.fresh)
    kernel = network.conv1.fine[0].conv.weight if kind == 'control' else (
        network.conv1.flie[0].conv.weight)
    expected = state['conv1.weight'] if kind == 'control' else (
        embedded_kernel(state['conv1.weight']))
    assert torch.equal(kernel, expected)


def test_kernels_of_other_sizes_are_left_and_named() -> None:
    host = strided('resnet50')
    network = build_pose(square('resnet50', NAMED['spd'], 32))
    done = transfer(embedded_state(host.state_dict(), network), network)
    assert done.refused == ('conv1.weight',)
    # The pool has no kernel.
    assert set(done.fresh) == {'conv1.conv.weight', 'maxpool.conv.weight'}


def test_a_network_of_the_same_kind_loads_as_it_is() -> None:
    network = build_pose(square('small', NAMED['lite'], 32))
    state = network.state_dict()
    assert embedded_state(state, network).keys() == state.keys()
    assert embedded_state(state, strided()).keys() == state.keys()
