# SPDX-License-Identifier: Apache-2.0
"""From image and joints to a surface, by networks that know the truth."""

from __future__ import annotations

import cv2
from digitizer_networks import encoded, TrueNetworks
from digitizer_people import person
from digitizer_shapes import CENTRE, depths, ELLIPSOID, ellipsoid_hits
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from hmr_ros.perception.digitizer.alignment import align
from hmr_ros.perception.digitizer.depth import BACK_EMPTY, FRONT_EMPTY
from hmr_ros.perception.digitizer.digitization import (
    Cancelled, digitize, emptied, flattened, in_one_piece, STAGES)
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.digitizer.mesh import direct_mesh
from hmr_ros.perception.digitizer.patches import blend, covered
from hmr_ros.perception.digitizer.surface import Surface
from hmr_ros.perception.errors import PerceptionError

SIDE = 512
#: as wide as the arms of the test vector reach, so that every part lies on it.
BODY = ELLIPSOID * (1.5, 1, 1)
FRONT, BACK = depths(ellipsoid_hits(BODY, SIDE))
THERE = FRONT < FRONT_EMPTY
TRUTH = encoded(FRONT, BACK)
IMAGE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
TOES = (17, 18, 20, 21)
LEG = (13, 15)


def test_a_known_body_returns_its_surface() -> None:
    networks = TrueNetworks(FRONT, BACK)
    found = digitize(IMAGE, person(side=SIDE), networks)
    np.testing.assert_array_equal(found.surface.there, THERE)
    for side in (found.surface.front, found.surface.back):
        on_it = (((side[THERE] - CENTRE) / BODY) ** 2).sum(1)
        np.testing.assert_allclose(on_it, 1, atol=1e-4)
    np.testing.assert_array_equal(found.image, IMAGE)
    np.testing.assert_array_equal(found.front, FRONT)
    np.testing.assert_array_equal(found.back, BACK)
    assert found.mask.shape == (SIDE, SIDE) and len(found.alignment.placed) == 12
    assert networks.fed['image'].shape == (3, SIDE // 8, SIDE // 8)
    np.testing.assert_array_equal(
        networks.fed['pair'], np.stack([FRONT, BACK])[:, 3::8, 3::8])


def test_parts_are_blended_to_the_normals_of_the_body() -> None:
    found = digitize(IMAGE, person(side=SIDE), TrueNetworks(FRONT, BACK))
    # At the outline warped patches mix in the background.
    inner = ndimage.binary_erosion(THERE, iterations=4) & covered(found.alignment)
    assert inner.sum() > 0.5 * THERE.sum()
    assert np.abs(found.normals - TRUTH)[:, inner].mean() < 0.005


@pytest.mark.parametrize('missing', [TOES, LEG])
def test_low_normals_are_nearer_to_the_truth_than_none(missing: tuple[int, ...]) -> None:
    joints = person(*missing, side=SIDE)
    found = digitize(IMAGE, joints, TrueNetworks(FRONT, BACK, joints))
    assert found.alignment.dropped
    inner = ndimage.binary_erosion(THERE, iterations=8)
    bare = inner & ~covered(found.alignment)
    assert bare.sum() > 500
    error = np.abs(found.normals - TRUTH)[:, bare].mean()
    assert 10 * error < TRUTH[:, bare].mean()
    assert not found.normals[:, ~ndimage.binary_dilation(THERE, iterations=8)].any()


def test_low_normals_become_as_steep_as_those_of_every_pixel() -> None:
    low = encoded(*np.stack([FRONT, BACK])[:, 3::8, 3::8])
    inner = ndimage.binary_erosion(THERE, iterations=12)[3::8, 3::8]
    error = [np.abs(normals - TRUTH[:, 3::8, 3::8])[:, inner].mean()
             for normals in (flattened(low), low)]
    assert error[0] < 0.02 and error[1] > 8 * error[0]


@given(arrays.arrays(np.float32, (6, 3, 3), elements=st.floats(0, 3, width=32)))
def test_flattened_normals_are_encoded_normals_whatever_networks_give(low: np.ndarray) -> None:
    normals = flattened(low).reshape(2, 3, 3, 3)
    there = low.reshape(2, 3, 3, 3).any(1)
    lengths = np.linalg.norm(2 * normals - 1, axis=1)
    np.testing.assert_allclose(lengths[there], 1, atol=1e-5)
    assert not np.moveaxis(normals, 1, -1)[~there].any()


# ---- who watches

def test_stages_are_told_in_order() -> None:
    told: list[tuple[str, float]] = []
    digitize(IMAGE, person(side=SIDE), TrueNetworks(FRONT, BACK),
             lambda stage, done: told.append((stage, done)))
    names = [stage for stage, _ in told]
    assert tuple(dict.fromkeys(names)) == STAGES
    assert names.count('parts') == 5, 'one network at a time'
    shares = [done for _, done in told]
    assert shares == sorted(set(shares)) and shares[0] == 0 and shares[-1] < 1


@pytest.mark.parametrize('stage', STAGES)
def test_who_watches_can_stop_it(stage: str) -> None:
    def stop(now: str, _done: float) -> None:
        if now == stage:
            raise Cancelled('enough')
    networks = TrueNetworks(FRONT, BACK)
    with pytest.raises(PerceptionError, match='enough'):
        digitize(IMAGE, person(side=SIDE), networks, stop)
    assert ('pair' in networks.fed) == (stage == 'surface')


# ---- what networks must not see

def test_the_background_is_black_before_anything_else() -> None:
    black = np.where(THERE[..., None], IMAGE, np.uint8(0))
    fed = []
    for image, mask in ((IMAGE, THERE), (black, None), (IMAGE, None)):
        networks = TrueNetworks(FRONT, BACK)
        digitize(image, person(side=SIDE), networks, mask=mask)
        fed.append(networks.fed['image'])
    np.testing.assert_array_equal(fed[0], fed[1])
    assert np.abs(fed[0] - fed[2]).max() > 0.1


def test_images_are_darkened_as_in_training() -> None:
    networks = TrueNetworks(FRONT, BACK)
    digitize(np.full_like(IMAGE, 200), person(side=SIDE), networks)
    # Grey loses to brightness alone; contrast and saturation keep it.
    np.testing.assert_allclose(networks.fed['image'], 0.85 * 200 / 127.5 - 1, atol=1e-5)


# ---- nobody, and pieces of somebody

def test_an_empty_image_is_refused() -> None:
    nothing = np.full((SIDE, SIDE), FRONT_EMPTY, np.float32), np.zeros((SIDE, SIDE), np.float32)
    with pytest.raises(PerceptionError, match='see nobody in the image. Is one person'):
        digitize(IMAGE, person(side=SIDE), TrueNetworks(*nothing))


def test_networks_that_put_the_front_behind_the_back_are_refused() -> None:
    networks = TrueNetworks(FRONT, BACK)
    networks.back = FRONT - 1
    with pytest.raises(PerceptionError, match='no pixel whose front is before its back'):
        digitize(IMAGE, person(side=SIDE), networks)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(PerceptionError, match='500x512 pixels; the networks take 512x512'):
        digitize(IMAGE[:, :500], person(side=SIDE), TrueNetworks(FRONT, BACK))


def test_somebody_from_behind_is_refused() -> None:
    joints = person(side=SIDE)
    mirrored = Joints(joints.points * (-1, 1) + (SIDE, 0))
    with pytest.raises(PerceptionError, match='from behind'):
        digitize(IMAGE, mirrored, TrueNetworks(FRONT, BACK))


def surface(there: np.ndarray) -> Surface:
    points = np.zeros((*there.shape, 3), np.float32)
    return Surface(points, points, there)


def test_the_largest_piece_stays() -> None:
    there = np.zeros((40, 40), bool)
    there[2:22, 2:22] = True
    alone = there.copy()
    there[30:36, 30:36] = True
    there[38, 1:5] = there[1, 39] = True
    np.testing.assert_array_equal(in_one_piece(surface(there)).there, alone)


def test_what_touches_by_a_corner_or_a_thread_is_another_piece() -> None:
    there = np.zeros((40, 40), bool)
    there[:20, :20] = True
    alone = there.copy()
    there[20:30, 20:30] = True
    there[10, 20:35] = True
    there[5:15, 35:40] = True
    np.testing.assert_array_equal(in_one_piece(surface(there)).there, alone)


@given(arrays.arrays(bool, (12, 12)))
def test_one_piece_is_one_mesh(there: np.ndarray) -> None:
    depth = np.where(there, 0.0, 0.1)
    points = np.dstack([*np.meshgrid(np.arange(12.0), np.arange(12.0)), 1 + depth])
    try:
        kept = in_one_piece(Surface(points, points + (0, 0, 1), there))
    except PerceptionError:
        assert not cv2.erode(there.astype(np.uint8), np.ones((2, 2), np.uint8), borderValue=0).any()
        return
    mesh = direct_mesh(kept, np.zeros((12, 12, 3), np.uint8))
    edges = np.concatenate([mesh.faces[:, [k, k - 1]] for k in range(3)])
    count = len(mesh.vertices)
    graph = coo_matrix((np.ones(len(edges)), edges.T), (count, count))
    assert connected_components(graph, directed=False)[0] == 1


def test_empty_low_depth_is_where_the_mask_says_so() -> None:
    depth = np.full((3, 2, 2), 3, np.float32)
    depth[2] = [[0.5, 0.51], [1, 0]]
    np.testing.assert_array_equal(
        emptied(depth), [[[FRONT_EMPTY, 3], [3, FRONT_EMPTY]], [[BACK_EMPTY, 3], [3, BACK_EMPTY]]])


def test_covered_is_where_blending_finds_a_part() -> None:
    alignment = align(person(7, side=SIDE), SIDE)
    ones = {name: np.ones((count, 6, *size), np.float32) for name, (count, size) in {
        placed.part.patch: (4, placed.size) for placed in alignment.placed}.items()}
    np.testing.assert_array_equal(covered(alignment), blend(ones, alignment).any(0))
