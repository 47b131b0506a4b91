# SPDX-License-Identifier: Apache-2.0
"""The z-buffer against a slow and obvious one."""

from __future__ import annotations

import numpy as np

from hmr_ros.training.synthetic.rasterizer import rasterize, vertex_normals


def _slow(points: np.ndarray, closeness: np.ndarray, faces: np.ndarray, size: int) -> tuple:
    """Solve for barycentric coordinates at each pixel in double precision."""
    triangles, buffer = np.full((size, size), -1), np.zeros((size, size))
    margin = np.full((size, size), np.inf)
    for f, face in enumerate(faces):
        corners = points[face].astype(np.float64)
        matrix = np.vstack([corners.T, np.ones(3)])
        if np.linalg.det(matrix) > -1e-9:
            continue
        for y in range(size):
            for x in range(size):
                weights = np.linalg.solve(matrix, [x, y, 1])
                margin[y, x] = min(margin[y, x], np.abs(weights).min())
                near = weights @ closeness[face]
                if weights.min() >= 0 and near > buffer[y, x]:
                    buffer[y, x], triangles[y, x] = near, f
    return triangles, buffer, margin > 1e-4


def test_equals_brute_force_on_random_triangles() -> None:
    rng, size = np.random.default_rng(0), 24
    points = rng.uniform(-6, size + 6, (24, 2)).astype(np.float32)
    closeness = rng.uniform(0.2, 1, 24).astype(np.float32)
    faces = rng.permutation(24).reshape(8, 3).astype(np.int32)
    triangles = np.full((size, size), -1, np.int32)
    buffer = np.zeros((size, size), np.float32)
    rasterize(points, closeness, faces, triangles, buffer)
    expected, depth, clear = _slow(points, closeness, faces, size)
    assert clear.mean() > 0.9 and (expected >= 0).sum() > 40
    np.testing.assert_array_equal(triangles[clear], expected[clear])
    np.testing.assert_allclose(buffer[clear], depth[clear], rtol=1e-4)


def test_leaves_out_backs_and_what_is_behind_the_camera() -> None:
    points = np.float32([[1, 1], [1, 8], [8, 1]])
    for closeness, faces, drawn in (
            ([1, 1, 1], [[0, 1, 2]], True), ([1, 1, 1], [[0, 2, 1]], False),
            ([1, -1, 1], [[0, 1, 2]], False), ([1, np.nan, 1], [[0, 1, 2]], False)):
        triangles = np.full((10, 10), -1, np.int32)
        rasterize(points, np.float32(closeness), np.int32(faces), triangles,
                  np.zeros((10, 10), np.float32))
        assert (triangles >= 0).any() == drawn


def test_a_second_draw_goes_over_the_first_only_where_nearer() -> None:
    points = np.float32([[0, 0], [0, 9], [9, 0]])
    faces, triangles = np.int32([[0, 1, 2]]), np.full((10, 10), -1, np.int32)
    buffer = np.zeros((10, 10), np.float32)
    rasterize(points, np.float32([.5, .5, .5]), faces, triangles, buffer)
    rasterize(points, np.float32([.4, .4, .9]), faces, triangles, buffer, 5)
    assert triangles[0, 0] == 0 and triangles[0, 8] == 5


def test_normals_of_a_tetrahedron_point_outwards() -> None:
    vertices = np.float32([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    faces = np.int32([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    np.testing.assert_allclose(
        vertex_normals(vertices, faces), vertices / np.sqrt(3), atol=1e-6)
