# SPDX-License-Identifier: Apache-2.0
"""Checks 1, 2 and 10 of the digitizer's sheet, as far as they need no export. Needs torch."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from torch import nn  # noqa: E402

from hmr_ros.evaluation.digitizer_complexity import (  # noqa: E402
    describe, float16_megabytes, inputs_of, SHEET, SHEET_TOTAL)
from hmr_ros.networks.digitizer_2k2k import build_network, Digitizer, NARROW, Variant  # noqa: E402
from hmr_ros.networks.digitizer_2k2k.blocks import Gate, up  # noqa: E402
from hmr_ros.networks.digitizer_2k2k.depth import emptied  # noqa: E402
from hmr_ros.networks.folding import fold_norms  # noqa: E402
from hmr_ros.perception.digitizer import tiles  # noqa: E402
from hmr_ros.perception.digitizer.alignment import align  # noqa: E402
from hmr_ros.perception.digitizer.frame import (  # noqa: E402
    colours_of_training, low_resolution, planes_of)
from hmr_ros.perception.digitizer.joints import Joints  # noqa: E402
from hmr_ros.perception.digitizer.parts import PATCHES, RESOLUTIONS  # noqa: E402
from hmr_ros.perception.digitizer.patches import blend, cut_patches  # noqa: E402

pytestmark = pytest.mark.torch
TINY = Variant(512, 1 / 16)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def on_meta(variant: Variant) -> Digitizer:
    with torch.device('meta'):
        return Digitizer(variant)


@pytest.fixture(scope='module')
def trained(settled: Callable[[nn.Module], nn.Module]) -> Digitizer:
    """A small one whose norms have values that training might leave."""
    torch.manual_seed(0)
    network = build_network(TINY)
    return settled(network).requires_grad_(False)


@pytest.mark.parametrize('resolution', RESOLUTIONS)
def test_counts_of_the_sheet(resolution: int) -> None:
    facts, column = describe(Variant(resolution)), RESOLUTIONS.index(resolution)
    assert facts['parameters'] == SHEET_TOTAL[0]
    assert facts['gmacs'] == pytest.approx(SHEET_TOTAL[1][column], rel=1e-3)
    for name, (parameters, gmacs) in SHEET.items():
        assert facts['parameters_by_module'][name] == parameters
        # The sheet rounds to hundredths.
        assert facts['gmacs_by_module'][name] == pytest.approx(
            gmacs[column], rel=1e-3, abs=5e-3), name


def test_entries_of_the_published_file() -> None:
    network = on_meta(Variant())
    entries = {name: (len(one.state_dict()), len(list(one.parameters())))
               for name, one, _ in inputs_of(network)}
    assert entries == {**dict.fromkeys((*PATCHES, 'low_normals'), (184, 106)),
                       'low_depth': (310, 178), 'high_depth': (90, 54)}
    assert len(network.state_dict()) == 1504


def test_shapes_of_what_comes_out() -> None:
    network = on_meta(Variant()).eval()
    blocks = []
    for block in (network.high_depth.block1, network.high_depth.block2):
        block.register_forward_hook(lambda _module, _inputs, out: blocks.append(tuple(out.shape)))
    with torch.no_grad():
        shapes = {name: tuple(one(*inputs).shape) for name, one, inputs in inputs_of(network)}
    assert blocks == [(1, 64, 512, 512), (1, 64, 1024, 1024)]
    assert shapes == {
        'head': (1, 6, 368, 320), 'torso': (1, 6, 528, 336), 'arm': (4, 6, 352, 224),
        'leg': (4, 6, 272, 256), 'foot': (2, 6, 176, 128), 'low_normals': (1, 6, 256, 256),
        'low_depth': (1, 3, 256, 256), 'high_depth': (1, 3, 2048, 2048)}


def test_the_narrow_variant_is_small_enough_to_ship() -> None:
    assert float16_megabytes(NARROW) <= 40
    assert float16_megabytes(Variant()) == pytest.approx(155, abs=1), 'the sheet, section 9'
    assert describe(NARROW)['paper'] == {}


@pytest.mark.parametrize('choice, message', [
    ({'resolution': 768}, 'resolution .* 768; allowed: 2048, 1024, 512'),
    ({'width': 0.3}, 'width .* 0.3; expected a multiple of 1/32'), ({'width': 0}, 'above 0')])
def test_other_variants_are_refused(choice: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Variant(**choice)


def test_the_random_start() -> None:
    torch.manual_seed(0)
    network = build_network(Variant(512, 0.25)).low_normals
    for conv in (network.encoder4[3], network.up4[1], network.decoder4[0]):
        expected = (2 / (9 * conv.out_channels)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.03)
        assert abs(conv.weight.mean().item()) < 0.03 * expected


def test_a_gate_weighs_all_channels_of_a_pixel_alike() -> None:
    torch.manual_seed(0)
    gate, skip = Gate(8, 4).eval(), 1 + random(2, 8, 5, 6).abs()
    with torch.no_grad():
        weight = gate(random(2, 8, 5, 6, seed=1), skip) / skip
    assert (0 < weight).all() and (weight < 1).all() and weight[:, 0].std() > 0.01
    torch.testing.assert_close(weight, weight[:, :1].expand_as(weight))


def test_upsampling_repeats_pixels() -> None:
    x = random(1, 2, 3, 4)
    expected = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(up(2, 5)[0](x), expected, rtol=0, atol=0)


def test_ranges_of_what_comes_out(trained: Digitizer) -> None:
    normals, depth = trained.low(10 * random(1, 3, 32, 32))
    assert normals.min() == 0 and normals.max() > 0
    high = trained.high_depth(emptied(depth), 10 * random(1, 6, 256, 256, seed=1).abs())
    for found in (depth, high):
        assert found[:, :2].min() >= 0 and found[:, :2].max() <= 6
        assert found[:, 2].min() >= 0 and found[:, 2].max() <= 1


def test_where_the_mask_says_nothing_depth_is_empty() -> None:
    depth = torch.tensor([[[[1.0, 1.5]], [[2.0, 2.5]], [[0.5, 0.51]]]])
    assert emptied(depth).tolist() == [[[[6.0, 1.5]], [[0.0, 2.5]]]]


def part(network: Digitizer) -> torch.Tensor:
    return network.parts['arm'](random(2, 6, 16, 24))


def low(network: Digitizer) -> torch.Tensor:
    return torch.cat(network.low(random(1, 3, 32, 32)), 1)


def high(network: Digitizer) -> torch.Tensor:
    return network.high_depth(3 + random(1, 2, 8, 8), random(1, 6, 64, 64, seed=1))


@pytest.mark.parametrize('run', [part, low, high])
def test_folded_norms_change_nothing(
        run: Callable[[Digitizer], torch.Tensor], trained: Digitizer) -> None:
    folded = deepcopy(trained)
    fold_norms(folded)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(run(folded), run(trained), rtol=0, atol=1e-4)


def test_networks_and_what_lies_around_them_fit_together(trained: Digitizer) -> None:
    """From image and joints to both depths: each shape is what the next one takes."""
    side = TINY.resolution
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    planes, alignment = planes_of(colours_of_training(image)), align(standing(side), side)
    normals, depth = trained.low(torch.from_numpy(low_resolution(planes))[None])
    patches = cut_patches(planes, normals[0].numpy(), alignment)
    merged = blend({name: trained.parts[name](torch.from_numpy(batch)).numpy()
                    for name, batch in patches.items()}, alignment)
    assert merged.shape == (6, side, side) and merged.any(0).mean() > 0.1
    found = trained.high_depth(emptied(depth), torch.from_numpy(merged)[None])
    assert found.shape == (1, 3, side, side) and found.isfinite().all()


def standing(side: int) -> Joints:
    """Somebody upright in the middle, from head to foot four fifths of the image high."""
    points = np.array([
        (50, 15), (51, 13), (49, 13), (53, 14), (47, 14), (58, 24), (42, 24), (61, 37), (39, 37),
        (63, 48), (37, 48), (54, 49), (46, 49), (55, 66), (45, 66), (55, 83), (45, 83), (58, 87),
        (60, 86), (55, 85), (42, 87), (40, 86), (45, 85), *[(64, 52)] * 4, *[(36, 52)] * 4])
    return Joints(points * side / 100)


def tiled(network: Digitizer, pair: torch.Tensor, normals: torch.Tensor, size: int) -> torch.Tensor:
    whole = torch.empty(1, 3, *normals.shape[2:])
    along = tiles.windows(normals.shape[2], size)
    for rows in along:
        for columns in along:
            small = [slice(one.seen.start // 8, one.seen.stop // 8) for one in (rows, columns)]
            found = network.high_depth(
                pair[:, :, small[0], small[1]], normals[:, :, rows.seen, columns.seen])
            whole[:, :, rows.kept, columns.kept] = found[:, :, rows.inner, columns.inner]
    return whole


def test_depth_refined_in_tiles_is_that_of_the_whole(
        trained: Digitizer, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, normals = 3 + random(1, 2, 32, 32), random(1, 6, 256, 256, seed=1)
    whole = trained.high_depth(pair, normals)
    torch.testing.assert_close(tiled(trained, pair, normals, 64), whole, rtol=0, atol=1e-4)
    monkeypatch.setattr(tiles, 'HALO', 16)
    assert (tiled(trained, pair, normals, 64) - whole).abs().max() > 1e-3, 'a smaller halo is not'
