# SPDX-License-Identifier: Apache-2.0
"""The shipped open body: mesh, joints, weights, markers, size."""

from __future__ import annotations

from collections import Counter

from hmr_ros.body import load_body
from hmr_ros.body.loading import OPEN_BODY
from hmr_ros.body.markers import MARKER_NAMES, marker_swap, MIDLINE_MARKERS
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

BODY = load_body()


def edges() -> np.ndarray:
    return np.concatenate([BODY.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])


def test_file_is_small_and_mesh_size_in_range() -> None:
    assert OPEN_BODY.stat().st_size <= 6e6
    assert 6000 <= len(BODY.v_template) <= 14000
    assert set(np.unique(BODY.faces)) == set(range(len(BODY.v_template)))


def test_mesh_is_closed_manifold_and_oriented_outwards() -> None:
    undirected = Counter(map(tuple, np.sort(edges(), axis=1)))
    assert set(undirected.values()) == {2}
    assert max(Counter(map(tuple, edges())).values()) == 1
    assert len(BODY.v_template) - len(undirected) + len(BODY.faces) == 2
    a, b, c = (BODY.v_template[BODY.faces[:, k]] for k in range(3))
    assert 0.04 < (a * np.cross(b, c)).sum() / 6 < 0.09


def test_no_vertex_fan_is_pinched() -> None:
    """Around each vertex the faces form one ring: as many faces as neighbours, one cycle."""
    following: dict[int, dict[int, int]] = {}
    for face in BODY.faces.tolist():
        for k in range(3):
            following.setdefault(face[k], {})[face[(k + 1) % 3]] = face[(k + 2) % 3]
    for ring in following.values():
        start = here = next(iter(ring))
        for _ in range(len(ring)):
            here = ring[here]
            if here == start:
                break
        assert here == start
        walked, here = 1, ring[start]
        while here != start:
            here, walked = ring[here], walked + 1
        assert walked == len(ring)


def test_body_mirrors_itself() -> None:
    mirrored = BODY.v_template * np.float32([-1, 1, 1])
    assert cKDTree(BODY.v_template).query(mirrored)[0].max() < 1e-4


def test_weights_and_regressor_are_convex() -> None:
    for rows in (BODY.weights, BODY.J_regressor):
        assert rows.min() >= 0
        np.testing.assert_allclose(rows.sum(1), 1, atol=1e-5)


def test_shapes_are_realistic_adults() -> None:
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(500, 10)).astype(np.float32)
    shaped = BODY.v_template + np.einsum('vck,nk->nvc', BODY.shapedirs, betas)
    heights = np.ptp(shaped[..., 1], axis=1)
    assert 1.62 < heights.mean() < 1.80
    assert 0.05 < heights.std() < 0.13


def test_joints_lie_inside_the_body() -> None:
    """Every joint is nearer to the skin's inside: the nearest face looks away from it."""
    corners = BODY.v_template[BODY.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    _, nearest = cKDTree(corners.mean(1)).query(BODY.joint_template)
    outward = corners.mean(1)[nearest] - BODY.joint_template
    assert (np.einsum('ij,ij->i', outward, normals[nearest]) > 0).all()


def test_markers_are_as_the_sheet_asks() -> None:
    """Sheet keypoint_guided, check 12."""
    points = BODY.v_template[BODY.marker_vertices]
    assert len(BODY.marker_vertices) == 67 and len(set(BODY.marker_vertices.tolist())) == 65
    swap = marker_swap()
    np.testing.assert_array_equal(swap[swap], np.arange(67))
    np.testing.assert_allclose(points[swap], points * [-1, 1, 1], atol=1e-4)
    for name, (x, _, _) in zip(MARKER_NAMES, points):
        if name in MIDLINE_MARKERS:
            assert abs(x) < 0.010
        else:
            assert x > 0 if name[0] == 'L' else x < 0
    assert pdist(BODY.v_template[np.unique(BODY.marker_vertices)]).min() > 0.020


def test_leaves_are_head_top_fingertips_and_toes() -> None:
    head, left_finger, right_finger, left_toe, right_toe = BODY.v_template[BODY.leaf_vertices]
    assert head[1] == pytest.approx(BODY.v_template[:, 1].max(), abs=0.01)
    assert left_finger[0] == BODY.v_template[:, 0].max()
    assert right_finger[0] == BODY.v_template[:, 0].min()
    assert left_toe[0] > 0 > right_toe[0]
    assert left_toe[2] == BODY.v_template[:, 2].max()
