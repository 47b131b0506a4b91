# SPDX-License-Identifier: Apache-2.0
"""Metrics of surfaces against what geometry says of spheres, boxes and plates."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('numba', reason='metrics of surfaces need numba')
trimesh = pytest.importorskip('trimesh', reason='metrics of surfaces need trimesh')
from hmr_ros.evaluation.digitizer_metrics import (  # noqa: E402
    Distances, front_normals, normal_errors, sampled, seen_from_outside, Shape, solid_overlap,
    surface_distances)
from hmr_ros.evaluation.errors import EvaluationError  # noqa: E402
from hmr_ros.perception.digitizer.depth import rays  # noqa: E402


def shape(mesh: trimesh.Trimesh, *moved: float) -> Shape:
    """A mesh before the camera, one unit away."""
    return Shape(np.float32(mesh.vertices + (moved or (0, 0, 0)) + (0, 0, 1)),
                 np.int32(mesh.faces))


def ball(radius: float, *moved: float) -> Shape:
    return shape(trimesh.creation.icosphere(4, radius), *moved)


def box(*sides: float, moved: tuple[float, ...] = ()) -> Shape:
    return shape(trimesh.creation.box(sides), *moved)


def together(*shapes: Shape) -> Shape:
    mesh = trimesh.util.concatenate(
        [trimesh.Trimesh(one.vertices, one.faces, process=False) for one in shapes])
    return Shape(np.float32(mesh.vertices), np.int32(mesh.faces))


def test_distances_from_a_box_are_those_of_geometry() -> None:
    half = np.array([0.1, 0.3, 0.05])
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (500, 3))
    apart = np.abs(points) - half
    outside = np.linalg.norm(np.maximum(apart, 0), axis=1)
    expected = outside + np.abs(np.minimum(apart.max(1), 0))
    found = Distances(box(*2 * half)).of(points + (0, 0, 1))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_distances_near_a_coarse_surface_are_not_those_of_its_samples() -> None:
    points, _ = sampled(box(0.2, 0.6, 0.1), 1000, 7)
    near = Distances(box(0.2, 0.6, 0.1)).of(points)
    # Samples of that box lie 1.5e-3 apart.
    assert near.max() < 1e-9


def test_spheres_in_spheres() -> None:
    p2s, chamfer = surface_distances(ball(0.3), ball(0.31))
    assert p2s == pytest.approx(0.01, rel=0.02) and chamfer == pytest.approx(0.01, rel=0.02)
    assert surface_distances(ball(0.3), ball(0.31)) == (p2s, chamfer), 'the same again'


def test_what_is_missing_counts_in_one_direction_alone() -> None:
    pair = together(ball(0.1), ball(0.1, 0.5, 0, 0))
    p2s, chamfer = surface_distances(ball(0.1), pair, count=3000)
    assert p2s < 1e-3 and chamfer > 0.08
    p2s, chamfer = surface_distances(pair, ball(0.1), count=3000)
    assert p2s > 0.17 and chamfer == pytest.approx(p2s / 2, rel=0.02)


def test_only_what_is_seen_from_outside_stays() -> None:
    inner, outer = ball(0.2), ball(0.3)
    seen = seen_from_outside(together(inner, outer))
    assert (seen.faces >= len(inner.vertices)).all()
    area = trimesh.Trimesh(seen.vertices, seen.faces, process=False).area
    assert area == pytest.approx(4 * np.pi * 0.09, rel=0.02), 'and all of that'


def test_legs_below_a_skirt_are_not_seen() -> None:
    skirt = trimesh.creation.cylinder(0.15, 0.6)
    # Its side alone: open above and below, upright.
    skirt.update_faces(np.abs(skirt.face_normals[:, 2]) < 0.5)
    skirt.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
    leg = box(0.05, 0.1, 0.05)
    seen = seen_from_outside(together(shape(skirt), leg))
    assert (seen.faces < len(skirt.vertices)).all()


@pytest.mark.parametrize('ratio', [1, 0.9, 0.6])
def test_overlap_of_spheres(ratio: float) -> None:
    assert solid_overlap(ball(0.3), ball(0.3 * ratio), 128) == pytest.approx(ratio ** 3, abs=0.01)


def test_overlap_of_boxes_and_of_none() -> None:
    sides, shift = (0.2, 0.6, 0.1), 0.05
    moved = solid_overlap(box(*sides), box(*sides, moved=(shift, 0, 0)), 200)
    assert moved == pytest.approx((0.2 - shift) / (0.2 + shift), abs=0.02)
    assert solid_overlap(box(*sides), box(*sides, moved=(0.3, 0, 0))) == 0


def test_inner_walls_are_solid_and_clothes_may_be_open_below() -> None:
    outer = box(0.2, 0.6, 0.2)
    assert solid_overlap(together(outer, box(0.1, 0.3, 0.1)), outer, 64) == 1
    # Two that overlap hold what either holds.
    half = box(0.2, 0.4, 0.2, moved=(0, 0.1, 0))
    other = box(0.2, 0.4, 0.2, moved=(0, -0.1, 0))
    assert solid_overlap(together(half, other), outer, 64) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize('side', [-1, 1])
def test_where_cloth_hangs_on_one_side_alone_the_solid_ends_at_the_leg(side: int) -> None:
    plate = trimesh.creation.box((0.2, 0.6, 0.2))
    plate.update_faces(plate.face_normals[:, 2] * side > 0.5)
    leg = box(0.1, 0.6, 0.1)
    found = solid_overlap(together(shape(plate), leg), leg, 100)
    assert found == pytest.approx(0.1 / 0.15, abs=0.02)


@pytest.mark.parametrize('degrees', [0, 5, 20])
def test_normals_of_tilted_plates(degrees: float) -> None:
    plate = trimesh.creation.box((3, 3, 0.01))
    tilted = plate.copy()
    tilted.apply_transform(trimesh.transformations.rotation_matrix(np.radians(degrees), (0, 1, 0)))
    # Faces of their own, as normals are mixed between the vertices.
    for mesh in (plate, tilted):
        mesh.unmerge_vertices()
    pictures = [front_normals(shape(mesh), 64) for mesh in (tilted, plate)]
    angle, length = normal_errors(*(normals for normals, _ in pictures))
    assert angle == pytest.approx(degrees, abs=0.05)
    assert length == pytest.approx(2 * np.sin(np.radians(degrees / 2)), abs=1e-3)


def test_normals_and_depth_of_a_sphere() -> None:
    normals, depth = front_normals(ball(0.3), 128)
    there = np.isfinite(depth)
    points = rays(128) / rays(128)[..., 2:] * np.where(there, depth, 0)[..., None]
    centre_to = points - np.float32([0, 0, 1])
    radius = np.linalg.norm(centre_to, axis=2)
    assert np.abs(radius[there] - 0.3).max() < 2e-3
    cosine = (normals * centre_to / np.maximum(radius, 1e-9)[..., None]).sum(2)
    assert cosine[there].min() > np.cos(np.radians(2.5)) and not normals[~there].any()
    # The silhouette of a sphere: 0.3 over the square root of 1 - 0.09, over the field of view.
    share = np.pi * 0.09 / (1 - 0.09) / (2 * np.tan(np.radians(25))) ** 2
    assert there.mean() == pytest.approx(share, rel=0.02)


def test_a_missing_part_is_a_right_angle() -> None:
    normals, _ = front_normals(ball(0.3), 64)
    half = normals.copy()
    half[:, :32] = 0
    angle, length = normal_errors(half, normals)
    assert angle == pytest.approx(45, abs=0.5) and length == pytest.approx(0.5, abs=0.01)
    with pytest.raises(EvaluationError, match='neither surface is in the picture'):
        normal_errors(0 * normals, 0 * normals)
    with pytest.raises(EvaluationError, match='without triangles'):
        sampled(Shape(normals.reshape(-1, 3), np.zeros((0, 3), np.int32)), 10, 0)
