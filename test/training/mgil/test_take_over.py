# SPDX-License-Identifier: Apache-2.0
"""Blocks begin as the trained layers they replace. Needs torch."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from torch.nn import functional  # noqa: E402

from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.networks.keypoint_guided.pyramid import PyramidNet  # noqa: E402
from hmr_ros.networks.mgil import build_pose, NAMED, PoseNetwork, square  # noqa: E402
from hmr_ros.networks.mgil.block import space_to_channel  # noqa: E402
from hmr_ros.networks.mgil.downsampling import STRIDED  # noqa: E402
from hmr_ros.training.engine_start import start_as_engine  # noqa: E402
from hmr_ros.training.mgil.config import PoseConfig  # noqa: E402
from hmr_ros.training.mgil.data import PoseCrops  # noqa: E402
from hmr_ros.training.mgil.module import normalised  # noqa: E402
from hmr_ros.training.mgil.pictures import training_pictures  # noqa: E402
from hmr_ros.training.mgil.take_over import take_over  # noqa: E402
from hmr_ros.training.mgil.warm_start import embedded_kernel  # noqa: E402
from hmr_ros.training.synthetic import render_cutouts  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """Crops of people: what a trained network sees in noise says nothing."""
    path = tmp_path_factory.mktemp('stores') / 'people.npz'
    render_cutouts(load_body(), 12, seed=4, size=96).save(path)
    config = PoseConfig((str(path),), size=64, batch=32, pictures=16, largest=64, smallest=48)
    crops = PoseCrops(config, training_pictures(config, load_body()))
    return normalised(next(iter(crops))['images'])


@pytest.fixture(scope='module')
def network(images: torch.Tensor) -> PoseNetwork:
    """The strided network as the shipped engine: with random weights small changes grow."""
    host = build_pose(square('pyramid', STRIDED, 64))
    paths = {name: f'backbone.{name}' for name, _ in PyramidNet().named_children()}
    start_as_engine(host, 'keypoint_guided', paths, lambda: host(images))
    return host.eval()


def taken_over(network: PoseNetwork, kind: str, images: torch.Tensor) -> PoseNetwork:
    changed = copy.deepcopy(network)
    take_over(changed, NAMED[kind], lambda: changed(images))
    return changed.eval()


@pytest.mark.parametrize(('size', 'padding', 'kept'), [(3, 1, slice(None)), (7, 3, slice(1, None))])
def test_a_kernel_is_embedded(size: int, padding: int, kept: slice) -> None:
    random = torch.Generator().manual_seed(0)
    kernel = torch.randn(5, 4, size, size, dtype=torch.float64, generator=random)
    image = torch.randn(2, 4, 12, 10, dtype=torch.float64, generator=random)
    seen = torch.zeros_like(kernel)
    seen[..., kept, kept] = kernel[..., kept, kept]
    torch.testing.assert_close(
        functional.conv2d(space_to_channel(image), embedded_kernel(kernel), padding=1),
        functional.conv2d(image, seen, stride=2, padding=padding), rtol=0, atol=1e-12)


@pytest.mark.parametrize('kind', ['spd', 'flie', 'add', 'mgil', 'control'])
def test_the_network_goes_on_seeing_what_it_saw(
        kind: str, network: PoseNetwork, images: torch.Tensor) -> None:
    changed = taken_over(network, kind, images)
    fresh = build_pose(square('pyramid', NAMED[kind], 64)).eval()
    with torch.no_grad():
        before, after, other = (
            each.maps(images, lambda layer, x: layer(x))[1] for each in (network, changed, fresh))
    # The pool, which becomes a mean, is what costs most of the likeness.
    assert alike(before, after) > 0.6
    assert alike(before, other) < 0.3


def alike(first: torch.Tensor, second: torch.Tensor) -> float:
    """Correlation over everything but the channels' means, which any network shares."""
    rows = torch.stack([
        (x - x.mean((0, 2, 3), keepdim=True)).flatten() for x in (first, second)])
    return float(torch.corrcoef(rows)[0, 1])


def test_training_sees_what_evaluation_sees(network: PoseNetwork, images: torch.Tensor) -> None:
    changed = taken_over(network, 'mgil', images)
    with torch.no_grad():
        kept = changed.maps(images, lambda layer, x: layer(x))[0]
        by_batch = changed.train().maps(images, lambda layer, x: layer(x))[0]
    assert alike(kept, by_batch) > 0.85


@pytest.mark.parametrize('kind', ['spd', 'mgil', 'control'])
def test_networks_without_a_pool_are_taken_over_too(kind: str, images: torch.Tensor) -> None:
    host = build_pose(square('tiny', STRIDED, 64))
    with torch.no_grad():
        for _ in range(40):
            host(images)
    changed = taken_over(host.eval(), kind, images)
    with torch.no_grad():
        before, after = host(images)[0], changed(images)[0]
    if kind == 'spd':
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    assert bool(torch.isfinite(after).all())
    assert not torch.equal(before[0], before[1]) and not torch.equal(after[0], after[1])
