# SPDX-License-Identifier: Apache-2.0
"""The mesh straight from the pixels is closed and faces outward, whatever the outline (check 9)."""

from __future__ import annotations

import time

from digitizer_shapes import capsule_hits, CENTRE, depths, ELLIPSOID, ellipsoid_hits
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra import numpy as arrays
import numpy as np
import pytest
from scipy import ndimage

from hmr_ros.perception.digitizer.mesh import direct_mesh, Mesh
from hmr_ros.perception.digitizer.surface import Surface, surface_of
from hmr_ros.perception.errors import PerceptionError


def directed_edges(mesh: Mesh) -> np.ndarray:
    """Number of every edge of every triangle, in its direction."""
    faces = mesh.faces.astype(np.int64)
    start, end = faces.ravel(), np.roll(faces, -1, 1).ravel()
    return start * len(mesh.vertices) + end


def assert_closed(mesh: Mesh) -> None:
    """Every edge once in each direction: each has two triangles, which are wound alike."""
    edges, count = directed_edges(mesh), len(mesh.vertices)
    assert len(np.unique(edges)) == len(edges)
    np.testing.assert_array_equal(np.sort(edges), np.sort(edges % count * count + edges // count))


def volume(mesh: Mesh) -> float:
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    return float(np.einsum('ni,ni->', corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6


def slab(there: np.ndarray) -> Surface:
    """A plate of thickness 1 with pixels of size 1."""
    rows, columns = np.indices(there.shape)
    front = np.stack([columns, rows, np.zeros(there.shape)], -1).astype(np.float32)
    return Surface(front, front + np.float32([0, 0, 1]), there)


def grey(surface: Surface) -> np.ndarray:
    return np.full((*surface.there.shape, 3), 128, np.uint8)


def meshed(surface: Surface) -> Mesh:
    return direct_mesh(surface, grey(surface))


def blocks_of(there: np.ndarray) -> np.ndarray:
    """Quads of four neighbours, by another way: erosion."""
    return ndimage.binary_erosion(there, np.ones((2, 2)), origin=-1)[:-1, :-1]


PINCHED = np.kron(np.array([[1, 0], [0, 1]]), np.ones((3, 3))).astype(bool)
TOUCHING = np.zeros((5, 5), bool)
TOUCHING[:3, :3] = TOUCHING[2:, 2:] = True


@given(arrays.arrays(bool, (9, 8), elements=st.sampled_from([True, True, True, False])))
@example(PINCHED)
@example(TOUCHING)
@example(TOUCHING[:, ::-1])
@example(np.ones((4, 5), bool))
@settings(max_examples=100, deadline=None)
def test_plates_of_any_outline_are_closed(there: np.ndarray) -> None:
    quads = blocks_of(there)
    if not quads.any():
        with pytest.raises(PerceptionError, match='no four neighbouring pixels'):
            meshed(slab(there))
        return
    mesh = meshed(slab(there))
    assert_closed(mesh)
    assert volume(mesh) == pytest.approx(quads.sum(), rel=1e-5), 'oriented outward'
    # Euler: two for each piece, less two for each hole through it.
    pieces = ndimage.label(quads)[1]
    holes = ndimage.label(np.pad(~quads, 1, constant_values=True), np.ones((3, 3)))[1] - 1
    edges = len(directed_edges(mesh)) // 2
    assert len(mesh.vertices) - edges + len(mesh.faces) == 2 * (pieces - holes)
    assert set(np.unique(mesh.faces)) == set(range(len(mesh.vertices)))


def test_an_ellipsoid_at_1024_pixels() -> None:
    front, back = depths(ellipsoid_hits(ELLIPSOID, 1024))
    surface = surface_of(front, back)
    start = time.process_time()
    mesh = meshed(surface)
    assert time.process_time() - start < 1
    assert_closed(mesh)
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * ELLIPSOID.prod(), rel=2e-3)
    camera = mesh.vertices * (1, -1, -1) + CENTRE
    np.testing.assert_allclose((((camera - CENTRE) / ELLIPSOID) ** 2).sum(1), 1, atol=1e-4)


def test_a_body_whose_limbs_hide_each_other_is_closed() -> None:
    mesh = meshed(surface_of(*depths(capsule_hits(512))))
    assert_closed(mesh)
    assert volume(mesh) > 0


def test_vertices_have_the_colour_of_their_pixel_on_both_sides() -> None:
    side = 128
    surface = surface_of(*depths(ellipsoid_hits(ELLIPSOID, side)))
    # Red and green count columns and rows.
    image = np.stack([*np.meshgrid(np.arange(side), np.arange(side)), np.zeros((side, side))],
                     -1).astype(np.uint8)
    mesh = direct_mesh(surface, image)
    half = len(mesh.vertices) // 2
    columns, rows = mesh.colours[:, 0], mesh.colours[:, 1]
    for points, part in ((surface.front, slice(half)), (surface.back, slice(half, None))):
        np.testing.assert_allclose(
            mesh.vertices[part], points[rows[part], columns[part]] * (1, -1, -1) + (0, 0, 1),
            atol=1e-6)
    with pytest.raises(PerceptionError, match=r'shape \(64, 64, 3\) of uint8; expected \(128,'):
        direct_mesh(surface, image[:64, :64])
