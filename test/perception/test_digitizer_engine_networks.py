# SPDX-License-Identifier: Apache-2.0
"""Networks that engines run: names, batches, and tiles of a large image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Mapping

import numpy as np
import pytest
from scipy import ndimage

from hmr_ros.perception.digitizer.depth import BACK_EMPTY, FRONT_EMPTY
from hmr_ros.perception.digitizer.networks import EngineNetworks, ENGINES, refined_side
from hmr_ros.perception.digitizer.parts import PATCHES
from hmr_ros.perception.errors import PerceptionError

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]


@dataclass
class FakeEngine:
    name: str
    inputs: list[Tensor]
    work: Callable[[Arrays], dict[str, np.ndarray]]
    outputs: list[Tensor] = field(default_factory=list)
    fed: list[Arrays] = field(default_factory=list)

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
        self.fed.append(feeds)
        return self.work(feeds)


def blurred(pair: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Look 24 pixels far, as the network does: depths of (N, 2, h, w), normals (N, 6, 8h, 8w)."""
    large = pair.repeat(8, 2).repeat(8, 3)
    planes = np.concatenate([large, normals[:, :1]], 1)
    return ndimage.uniform_filter(planes, (1, 1, 49, 49), mode='constant')


def engines(side: int, window: int) -> dict[str, FakeEngine]:
    low = side // 8
    return {
        'low': FakeEngine('low', [Tensor('image', (-1, 3, low, low))], lambda feeds: {
            'normals': np.repeat(feeds['image'], 2, 1), 'depth': feeds['image']}),
        **{name: FakeEngine(name, [], lambda feeds, name=name: {
            'normals': feeds['patch'] + len(name)}) for name in PATCHES},
        'refine': FakeEngine(
            'refine', [Tensor('pair', (-1, 2, window // 8, window // 8)),
                       Tensor('normals', (-1, 6, window, window))],
            lambda feeds: {'depth': blurred(feeds['pair'], feeds['normals'])})}


def pair_of(side: int, rows: slice, columns: slice) -> np.ndarray:
    pair = np.empty((2, side // 8, side // 8), np.float32)
    pair[0], pair[1] = FRONT_EMPTY, BACK_EMPTY
    pair[:, rows, columns] = np.random.default_rng(0).random(pair[:, rows, columns].shape)
    return pair


def test_every_network_gets_its_tensors() -> None:
    networks = EngineNetworks(engines(512, 512))
    assert networks.resolution == 512
    image = np.random.default_rng(0).random((3, 64, 64), np.float32)
    normals, depth = networks.low(image)
    np.testing.assert_array_equal(depth, image)
    assert normals.shape == (6, 64, 64)
    patches = {name: np.zeros((2, 6, 8, 8), np.float32) for name in ('arm', 'foot')}
    found = networks.parts(patches)
    assert list(found) == ['arm', 'foot'] and (found['foot'] == 4).all()


def test_a_small_image_is_refined_in_one_piece() -> None:
    opened = engines(512, 512)
    normals = np.random.default_rng(0).random((6, 512, 512), np.float32)
    pair = pair_of(512, slice(20, 30), slice(20, 30))
    found = EngineNetworks(opened).refine(pair, normals)
    np.testing.assert_allclose(found, blurred(pair[None], normals[None])[0], atol=1e-6)
    assert len(opened['refine'].fed) == 1


def test_tiles_are_exact_and_those_of_nobody_are_not_refined() -> None:
    opened = engines(1024, refined_side(1024))
    normals = np.random.default_rng(0).random((6, 1024, 1024), np.float32)
    # The upper left tile, and so near to the lower one that it is seen from there.
    pair = pair_of(1024, slice(10, 62), slice(10, 58))
    found = EngineNetworks(opened).refine(pair, normals)
    whole = blurred(pair[None], normals[None])[0]
    np.testing.assert_allclose(found[:, :, :512], whole[:, :, :512], atol=1e-5)
    np.testing.assert_array_equal(found[0, :, 512:], FRONT_EMPTY)
    assert not found[1:, :, 512:].any()
    assert [feeds['normals'].shape for feeds in opened['refine'].fed] == 2 * [(1, 6, 560, 560)]
    assert all(array.flags.c_contiguous
               for feeds in opened['refine'].fed for array in feeds.values())


def test_missing_engines_are_named() -> None:
    opened = engines(512, 512)
    del opened['foot'], opened['refine']
    with pytest.raises(PerceptionError, match='no engine foot, refine; export all'):
        EngineNetworks(opened)


@pytest.mark.parametrize('side, window', [(512, 560), (1024, 512), (768, 560)])
def test_engines_of_different_exports_are_refused(side: int, window: int) -> None:
    with pytest.raises(PerceptionError, match=f'of {side} pixels and refine for .* {window}'):
        EngineNetworks(engines(side, window))


def test_an_engine_of_another_network_is_refused() -> None:
    opened = engines(512, 512)
    opened['low'].inputs = [Tensor('crops', (-1, 3, 64, 64))]
    with pytest.raises(PerceptionError, match="engine 'low' has the inputs .*; expected image"):
        EngineNetworks(opened)


def test_engines_are_named_once() -> None:
    assert ENGINES == ('low', 'head', 'torso', 'arm', 'leg', 'foot', 'refine')
