# SPDX-License-Identifier: Apache-2.0
"""Depth, normals and points of known shapes (checks 6 to 8)."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from digitizer_shapes import (
    capsule_hits, depths, ELLIPSOID, ellipsoid_hits, ellipsoid_normals, ray_of, SPHERE)
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.perception import digitizer
from hmr_ros.perception.digitizer.depth import (
    BACK_EMPTY, depth_of, from_file, FRONT_EMPTY, length_of, points_of, rays, to_file)
from hmr_ros.perception.digitizer.normals import BACK, decode, encode, FRONT
from hmr_ros.perception.digitizer.surface import cloud_of, foreground, surface_of, to_world
from hmr_ros.perception.errors import PerceptionError

#: millimetres of the sheet's unit.
UNIT_MM = 2520


# ---- check 6

def test_depth_of_a_sphere() -> None:
    front, back = (depth_of(hits) for hits in ellipsoid_hits(SPHERE, 2048))
    assert (np.nanmin(front), np.nanmax(front)) == pytest.approx((0.7133, 1.8007), abs=1e-3)
    assert (np.nanmin(back), np.nanmax(back)) == pytest.approx((1.8041, 3.2867), abs=1e-3)


def test_depth_of_a_plane_grows_from_the_middle() -> None:
    depth = depth_of(1 / rays(2048)[..., 2])
    assert depth[1024, 1024] == pytest.approx(2, abs=1e-4)
    assert depth[1024, 1024 + 783] == pytest.approx(2.2648, abs=1e-4)


@given(st.floats(0, 6))
def test_depth_and_length_are_each_other_s_inverse(depth: float) -> None:
    assert depth_of(length_of(depth)) == pytest.approx(depth, abs=1e-9)
    assert length_of(depth) == pytest.approx(0.533692 + 0.2331539 * depth, abs=1e-6)


def test_files_lose_less_than_a_twentieth_of_a_millimetre() -> None:
    depth = np.linspace(0.01, 3.99, 100_001)
    picture = to_file(depth)
    assert picture.dtype == np.uint16 and picture.min() > 0
    lost = (length_of(depth) - length_of(from_file(picture, FRONT_EMPTY))) * UNIT_MM
    assert lost.min() >= -1e-3 and lost.max() <= 0.04 and lost.mean() < 0.02


def test_files_keep_what_is_empty() -> None:
    pair = depths(ellipsoid_hits(ELLIPSOID, 64))
    read = [from_file(to_file(depth), empty) for depth, empty in zip(
        pair, (FRONT_EMPTY, BACK_EMPTY))]
    np.testing.assert_array_equal(foreground(*read), foreground(*pair))
    for depth, again in zip(pair, read):
        np.testing.assert_allclose(again, depth, atol=1 / 16384)


@pytest.mark.parametrize('side', [64, 2048])
def test_rays_are_those_of_a_camera_of_fifty_degrees(side: int) -> None:
    np.testing.assert_allclose(rays(side), ray_of(side), atol=1e-7)


# ---- check 7

@pytest.mark.parametrize('side', [512, 256])
def test_signs_of_encoded_normals(side: int) -> None:
    front, back = depths(ellipsoid_hits(SPHERE, side))
    there = front < FRONT_EMPTY
    front[~there] = 0
    inner = there & np.roll(there, 1, 0) & np.roll(there, -1, 1)
    middle = np.arange(side) - side / 2 + 0.5
    right, top = inner & (middle > 3), inner & (middle[:, None] < -3)
    for depth, sign in ((front, 1), (back, -1)):
        normals = encode(depth)
        assert normals.dtype == np.float32 and not normals[:, ~there].any()
        assert (sign * (normals[0] - 0.5)[right] < 0).all()
        assert (sign * (normals[1] - 0.5)[top] > 0).all()


@pytest.mark.parametrize('step', [1, 8])
def test_how_steep_encoded_normals_are(step: int) -> None:
    """255 d s / 512 times the tangent between the normal and the ray."""
    side = 2048 // step
    front, _ = depths(ellipsoid_hits(SPHERE, side))
    front[front == FRONT_EMPTY] = 0
    stored = 2 * encode(front) - 1
    points = points_of(front)
    outward = ellipsoid_normals(SPHERE, points)
    cosine = -(outward * rays(side)).sum(-1)
    with np.errstate(invalid='ignore', divide='ignore'):
        tangent = np.sqrt(1 - cosine ** 2) / cosine
        ratio = np.hypot(stored[0], stored[1]) / stored[2] / tangent
    chosen = (front > 0) & (np.hypot(points[..., 0], points[..., 1]) < 0.2) & (tangent > 0.1)
    expected = 255 * length_of(front) * step / 512
    assert chosen.sum() > 100
    assert np.abs(ratio / expected - 1)[chosen].max() < 0.1


@pytest.mark.parametrize('step, error', [(1, 0.1), (8, 0.8)])
def test_decoded_normals_are_those_of_the_sphere(step: int, error: float) -> None:
    side = 2048 // step
    for depth, outward in zip(depths(ellipsoid_hits(SPHERE, side)), (FRONT, BACK)):
        there = (depth > 0) & (depth < FRONT_EMPTY)
        depth[~there] = 0
        found = decode(encode(depth), depth, outward)
        points = points_of(depth)
        # Where the surface is steep the slope between two pixels is none.
        inner = there & (np.hypot(points[..., 0], points[..., 1]) < 0.2)
        cosine = (found * ellipsoid_normals(SPHERE, points)).sum(-1)[inner]
        assert np.degrees(np.arccos(cosine.clip(-1, 1))).mean() < error
        assert not found[~there].any()


def test_normals_of_another_size_than_the_depth_are_refused() -> None:
    with pytest.raises(PerceptionError, match=r'shape \(3, 8, 8\) and depth \(16, 16\)'):
        decode(np.zeros((3, 8, 8)), np.zeros((16, 16)), FRONT)


# ---- check 8

@pytest.mark.parametrize('hits', [ellipsoid_hits(ELLIPSOID, 256), capsule_hits(256)],
                         ids=['ellipsoid', 'capsules'])
def test_the_foreground_is_where_rays_hit(hits: tuple[np.ndarray, np.ndarray]) -> None:
    front, back = depths(hits)
    np.testing.assert_array_equal(foreground(front, back), ~np.isnan(hits[0]))


@given(st.integers(0, 2 ** 32 - 1))
@settings(max_examples=20, deadline=None)
def test_no_far_point_leaves_whatever_networks_give(seed: int) -> None:
    random = np.random.default_rng(seed)
    front, back = random.uniform(0, 6, (2, 32, 32))
    front[random.random((32, 32)) < 0.2] = FRONT_EMPTY
    back[random.random((32, 32)) < 0.2] = BACK_EMPTY
    front[0, 0] = np.nan
    front[1, :], back[1, :] = 6, 6
    surface = surface_of(front, back)
    assert not surface.there[0, 0] and not surface.there[1].any()
    kept = np.concatenate([surface.front[surface.there], surface.back[surface.there]])
    lengths = np.linalg.norm(kept, axis=1)
    assert lengths.max() <= 1.9 + 1e-6 and kept[:, 2].min() > 0.3
    assert (front <= back)[surface.there].all()


def test_a_mask_takes_away_more() -> None:
    front, back = depths(ellipsoid_hits(ELLIPSOID, 64))
    mask = np.zeros((64, 64))
    mask[:, :32] = 0.51
    mask[:, 32:] = 0.5
    there = surface_of(front, back, mask).there
    assert there[:, :32].any() and not there[:, 32:].any()
    with pytest.raises(PerceptionError, match=r'mask .* shape \(32, 64\); expected \(64, 64\)'):
        surface_of(front, back, mask[:32])


# ---- clouds

def test_a_cloud_lies_on_the_ellipsoid_and_faces_outward() -> None:
    side = 512
    surface = surface_of(*depths(ellipsoid_hits(ELLIPSOID, side)))
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    cloud = cloud_of(surface, image)
    count = len(cloud.points) // 2
    # Back to the camera's axes.
    points, normals = ((rows - offset) * (1, -1, -1) for rows, offset in (
        (cloud.points, (0, 0, 1)), (cloud.normals, (0, 0, 0))))
    on_it = (((points - (0, 0, 1)) / ELLIPSOID) ** 2).sum(1)
    np.testing.assert_allclose(on_it, 1, atol=1e-4)
    cosine = (normals * ellipsoid_normals(ELLIPSOID, points)).sum(1)
    angle = np.degrees(np.arccos(cosine.clip(-1, 1)))
    assert angle.mean() < 0.3 and np.quantile(angle, 0.99) < 3
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert (normals[:count] * points[:count]).sum(1).max() < 0, 'the front faces the camera'
    np.testing.assert_array_equal(cloud.colours[:count], cloud.colours[count:])
    assert 0.9 < count / surface.there.sum() < 1


def test_the_world_s_axes() -> None:
    moved = to_world(np.float32([[0.1, 0.2, 0.9]]))
    np.testing.assert_allclose(moved, [[0.1, -0.2, 0.1]], atol=1e-7)


def test_all_of_it_needs_what_the_live_path_has_alone() -> None:
    names = [f'hmr_ros.perception.digitizer.{module.name}'
             for module in pkgutil.iter_modules(digitizer.__path__)]
    others = ('torch', 'numba', 'lightning', 'trimesh', 'pymeshlab')
    program = (f'import sys, {", ".join(names)}; '
               f'print([name for name in {others} if name in sys.modules])')
    output = subprocess.check_output([sys.executable, '-c', program], text=True)
    assert len(names) > 5 and output.strip() == '[]'
