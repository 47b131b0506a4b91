# SPDX-License-Identifier: Apache-2.0
"""Finer meshes: the same surface, smoother, closed where the old one was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hmr_ros.body import load_whole_body
from hmr_ros.training.synthetic import SyntheticError
from hmr_ros.training.synthetic.garments import Shell
from hmr_ros.training.synthetic.subdivision import finer, loop, smoothed

TETRAHEDRON = np.float64([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
FACES = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])


def edges_of(faces: np.ndarray) -> np.ndarray:
    return np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2)


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return float(np.sum(a * np.cross(b, c))) / 6


def test_a_closed_mesh_stays_closed_and_turned_outward() -> None:
    vertices, faces = TETRAHEDRON, FACES
    for _ in range(3):
        matrix, faces = loop(faces, len(vertices))
        vertices = matrix @ vertices
    edges = edges_of(faces)
    assert len(np.unique(edges, axis=0)) == len(edges) == 3 * len(faces) == 3 * 4 ** 4
    there = {tuple(edge) for edge in edges.tolist()}
    assert all((b, a) in there for a, b in there)
    assert 0 < volume(vertices, faces) < volume(TETRAHEDRON, FACES)


def test_rows_are_means() -> None:
    matrix, _ = loop(FACES, len(TETRAHEDRON))
    np.testing.assert_allclose(np.asarray(matrix.sum(1)).ravel(), 1, atol=1e-12)


def test_a_flat_sheet_stays_flat_and_keeps_its_middles() -> None:
    sheet = np.float64([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    matrix, _ = loop(np.array([[0, 1, 2]]), 3)
    np.testing.assert_allclose((matrix @ sheet)[3:], [[.5, 0, 0], [0, .5, 0], [.5, .5, 0]])


def test_a_finer_body_moves_as_the_body() -> None:
    body = load_whole_body()
    fine, pose = finer(body), np.random.default_rng(0).normal(0, 0.2, (1, 53, 3))
    shape, zero = np.random.default_rng(1).normal(size=(1, 20)).astype(np.float32), np.zeros(
        (1, 3), np.float32)
    coarse, joints = body.skin(body.rotations(pose), shape, zero)
    found, fine_joints = fine.skin(fine.rotations(pose), shape, zero)
    off = np.linalg.norm(found[:, :coarse.shape[1]] - coarse, axis=-1)
    assert len(fine.faces) == 4 * len(body.faces)
    # Smoothing draws corners in, most of all where triangles are large and bent.
    assert np.median(off) < 2e-3
    assert np.quantile(off, 0.95) < 8e-3
    np.testing.assert_allclose(fine_joints, joints, atol=5e-3)


def test_pose_blend_shapes_are_refused() -> None:
    body = load_whole_body()
    with pytest.raises(SyntheticError, match='open whole body'):
        finer(replace(body, posedirs=np.zeros((1, 1), np.float32)))


def test_both_sides_of_a_shell_become_finer() -> None:
    rng = np.random.default_rng(3)
    shell = Shell(TETRAHEDRON.astype(np.float32), np.concatenate([FACES, FACES[:, ::-1]]),
                  rng.random((4, 10), np.float32), np.array([7, 7, 9, 9], np.uint8))
    fine = smoothed(shell)
    front, back = np.split(fine.faces, 2)
    np.testing.assert_array_equal(front, back[:, ::-1])
    assert len(front) == 16 * len(FACES)
    assert len(fine.vertices) == len(fine.attributes) == len(fine.parts) == front.max() + 1
    assert set(fine.parts) == {7, 9}
