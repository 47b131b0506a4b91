# SPDX-License-Identifier: Apache-2.0
"""Meshes of screened Poisson: closed, outward, near the truth (check 9), coloured by the image."""

from __future__ import annotations

from collections.abc import Callable
import importlib
from types import SimpleNamespace

from digitizer_shapes import (
    capsule_hits, CENTRE, depths, ELLIPSOID, ellipsoid_hits, from_capsules, from_ellipsoid)
import numpy as np
import pytest

from hmr_ros.perception.digitizer import poisson
from hmr_ros.perception.digitizer.mesh import Mesh
from hmr_ros.perception.digitizer.poisson import free_cores, poisson_mesh, smooth_mesh
from hmr_ros.perception.digitizer.surface import (
    Cloud, cloud_of, rim_of, stitched_cloud, Surface, surface_of)
from hmr_ros.perception.errors import PerceptionError

UNIT_MM = 2520
VOLUME = 4 / 3 * np.pi * ELLIPSOID.prod()


def importable(name: str) -> str:
    """Return why a library cannot be used, or nothing."""
    try:
        importlib.import_module(name)
    except (ImportError, OSError) as error:
        return str(error)
    return ''


PROBLEMS = {name: importable(name) for name in poisson.LIBRARIES}
THERE = [name for name, problem in PROBLEMS.items() if not problem]
needs_library = pytest.mark.skipif(not THERE, reason=f'no library of Poisson meshes: {PROBLEMS}')


@pytest.fixture(params=THERE or [None])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test once with each library that is there."""
    monkeypatch.setattr(poisson, 'LIBRARIES', (request.param,))


def volume(mesh: Mesh) -> float:
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    return float(np.einsum('ni,ni->', corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6


def edge_counts(mesh: Mesh) -> set[int]:
    """How many triangles edges have, whatever their direction."""
    edges = np.sort(np.stack([mesh.faces, np.roll(mesh.faces, -1, 1)], -1).reshape(-1, 2), 1)
    return set(np.unique(edges, axis=0, return_counts=True)[1])


def stripes(side: int) -> np.ndarray:
    """An image whose red and green count columns and rows."""
    columns, rows = np.meshgrid(np.arange(side), np.arange(side))
    return np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8)


def grey(surface: Surface) -> np.ndarray:
    return np.full((*surface.there.shape, 3), 128, np.uint8)


def errors_mm(mesh: Mesh, distance: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return UNIT_MM * distance(mesh.vertices * (1, -1, -1) + CENTRE)


@needs_library
@pytest.mark.usefixtures('library')
def test_an_ellipsoid_at_512_pixels() -> None:
    surface = surface_of(*depths(ellipsoid_hits(ELLIPSOID, 512)))
    mesh = poisson_mesh(cloud_of(surface, grey(surface)), poisson.OCTREE_DEPTHS[512])
    errors = errors_mm(mesh, lambda points: from_ellipsoid(ELLIPSOID, points))
    assert errors.mean() <= 0.1 and np.quantile(errors, 0.95) <= 0.4
    assert volume(mesh) == pytest.approx(VOLUME, rel=2e-3), 'outward, as it is positive'
    assert edge_counts(mesh) == {2}
    assert len(mesh.vertices) - 3 * len(mesh.faces) // 2 + len(mesh.faces) == 2, 'one ball'


@pytest.mark.slow
@needs_library
@pytest.mark.usefixtures('library')
def test_a_body_of_capsules_at_1024_pixels() -> None:
    surface = surface_of(*depths(capsule_hits(1024)))
    mesh = poisson_mesh(cloud_of(surface, grey(surface)), poisson.OCTREE_DEPTHS[1024])
    assert errors_mm(mesh, from_capsules).mean() <= 0.2
    assert volume(mesh) > 0 and edge_counts(mesh) == {2}


@needs_library
@pytest.mark.usefixtures('library')
def test_colours_are_those_of_the_pixel_that_shows_a_vertex() -> None:
    side = 128
    surface = surface_of(*depths(ellipsoid_hits(ELLIPSOID, side)))
    mesh = poisson_mesh(cloud_of(surface, stripes(side)), 6)
    right, down = ((sign * mesh.vertices[:, axis] / (1 - mesh.vertices[:, 2]) / np.tan(
        np.radians(25)) + 1) * side / 2 - 0.5 for axis, sign in ((0, 1), (1, -1)))
    apart = np.hypot(mesh.colours[:, 0] - right, mesh.colours[:, 1] - down)
    # Up to half a pixel of the grid; more where the band without slopes has no colour.
    assert np.quantile(apart, 0.5) < 0.6 and apart.max() < 6
    back = mesh.vertices[:, 2] < 0
    assert 0.4 < back.mean() < 0.6 and np.quantile(apart[back], 0.5) < 0.6, 'the back repeats it'


@needs_library
@pytest.mark.usefixtures('library')
def test_a_rim_keeps_sides_that_do_not_meet_from_bulging() -> None:
    """The sheet, 5.5: 20 mm between both sides; 3 % of the half-width without."""
    surface = surface_of(*depths(ellipsoid_hits(ELLIPSOID, 256)))
    half = 0.010 / 2.52
    apart = Surface(surface.front - np.float32([0, 0, half]),
                    surface.back + np.float32([0, 0, half]), surface.there)
    plain, stitched = (
        np.abs(poisson_mesh(make(apart, grey(apart)), 7).vertices[:, 0]).max() / ELLIPSOID[0] - 1
        for make in (cloud_of, stitched_cloud))
    assert plain > 0.01 and abs(stitched) < 0.01


def test_a_rim_stands_on_the_outline_and_looks_away_from_it() -> None:
    surface = surface_of(*depths(ellipsoid_hits(ELLIPSOID, 128)))
    apart = Surface(surface.front * np.float32(0.98), surface.back * np.float32(1.02),
                    surface.there)
    rim = rim_of(apart, stripes(128))
    points, normals = rim.points.reshape(-1, 9, 3), rim.normals.reshape(-1, 9, 3)
    np.testing.assert_allclose(np.linalg.norm(rim.normals, axis=1), 1, atol=1e-5)
    # Each nine on a ray of the camera, equally far apart, with normals square to it.
    from_camera = points - (0, 0, 1)
    ray = from_camera[:, :1] / np.linalg.norm(from_camera[:, :1], axis=2, keepdims=True)
    np.testing.assert_allclose(np.cross(from_camera, np.broadcast_to(ray, points.shape)), 0,
                               atol=1e-6)
    steps = np.linalg.norm(np.diff(points, axis=1), axis=2)
    np.testing.assert_allclose(steps, np.repeat(steps[:, :1], 8, 1), rtol=1e-3)
    np.testing.assert_allclose((normals * ray).sum(2), 0, atol=1e-5)
    slope = points[:, 4, :2] / ELLIPSOID[:2] ** 2
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    assert ((normals[:, 4, :2] * slope).sum(1)).min() > 0.9
    assert (rim.colours.reshape(-1, 9, 3) == rim.colours.reshape(-1, 9, 3)[:, :1]).all()
    columns, rows = rim.colours[:, 0], rim.colours[:, 1]
    assert surface.there[rows, columns].all()


def test_sides_that_meet_need_no_rim() -> None:
    surface = surface_of(*depths(ellipsoid_hits(ELLIPSOID, 64)))
    flat = Surface(surface.front, surface.front * np.float32(1.001), surface.there)
    assert len(rim_of(flat, grey(flat)).points) == 0


# ---- what goes wrong

def tetrahedron() -> Cloud:
    points = np.float32([[0, 0, 0], [.1, 0, 0], [0, .1, 0], [0, 0, .1]])
    return Cloud(points, points, np.zeros((4, 3), np.uint8))


FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def given(monkeypatch: pytest.MonkeyPatch, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Let the library make this of any cloud."""
    monkeypatch.setattr(poisson, '_library', lambda: ('open3d', SimpleNamespace()))
    monkeypatch.setattr(poisson, '_RECONSTRUCT', {'open3d': lambda *_: (vertices, faces)})


def test_a_surface_of_another_size_has_no_octree_depth() -> None:
    surface = surface_of(*depths(ellipsoid_hits(ELLIPSOID, 64)))
    with pytest.raises(PerceptionError, match='64 pixels has no octree depth.*512, 1024, 2048'):
        smooth_mesh(surface, grey(surface))


def test_what_is_kept_is_stitched_and_as_fine_as_its_image(
        monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(poisson, 'poisson_mesh', lambda *words: asked.append(words))
    surface = surface_of(*depths(ellipsoid_hits(ELLIPSOID, 512)))
    smooth_mesh(surface, grey(surface), 3)
    (cloud, depth, threads), = asked
    assert (depth, threads) == (8, 3)
    assert len(cloud.points) == len(cloud_of(surface, grey(surface)).points) + len(
        rim_of(surface, grey(surface)).points)


def test_the_largest_piece_stays_and_faces_outward(monkeypatch: pytest.MonkeyPatch) -> None:
    points = tetrahedron().points
    # A dent in one face of the second makes it the larger one.
    second = np.concatenate([points - .5, [[-.48, -.48, -.48]]])
    dented = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 4], [2, 3, 4], [3, 1, 4]])
    given(monkeypatch, np.concatenate([points, second]),
          np.concatenate([FACES, dented + 4])[:, ::-1])
    mesh = poisson_mesh(tetrahedron(), 8)
    assert len(mesh.vertices) == 5 and len(mesh.faces) == 6 and volume(mesh) > 0
    np.testing.assert_allclose(mesh.vertices, second, atol=1e-6)
    assert mesh.vertices.dtype == np.float32 and mesh.faces.dtype == np.int32


def test_an_open_mesh_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, tetrahedron().points, FACES[:3])
    with pytest.raises(PerceptionError, match='not closed.*take the direct mesh'):
        poisson_mesh(tetrahedron(), 8)


def test_what_is_refused_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, tetrahedron().points, FACES[:0])
    with pytest.raises(PerceptionError, match='no triangles of 4 points'):
        poisson_mesh(tetrahedron(), 8)
    with pytest.raises(PerceptionError, match='octree_depth is 13; expected 3 to 12'):
        poisson_mesh(tetrahedron(), 13)
    empty = np.zeros((0, 3), np.float32)
    with pytest.raises(PerceptionError, match='no points'):
        poisson_mesh(Cloud(empty, empty, empty.astype(np.uint8)), 8)


def test_no_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> None:
        raise ImportError(f'no {name}')
    monkeypatch.setattr(poisson.importlib, 'import_module', without)
    with pytest.raises(PerceptionError, match=r'no open3d; .*no pymeshlab.*hmr_ros\[digitizer\]'):
        poisson_mesh(tetrahedron(), 8)


@pytest.mark.parametrize('load, free', [(0.1, 4), (2.6, 1), (9, 1)])
def test_busy_cores_are_left_alone(
        monkeypatch: pytest.MonkeyPatch, load: float, free: int) -> None:
    monkeypatch.setattr(poisson.os, 'sched_getaffinity', lambda _: set(range(4)))
    monkeypatch.setattr(poisson.os, 'getloadavg', lambda: (load, 0, 0))
    assert free_cores() == free
