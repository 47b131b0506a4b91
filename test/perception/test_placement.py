# SPDX-License-Identifier: Apache-2.0
"""Bodies stand where their joints are seen."""

from hypothesis import given, settings, strategies as st
import numpy as np
from scipy.optimize import least_squares

from hmr_ros.perception.placement import fit_roots


def scene(seed, count=3):
    rng = np.random.default_rng(seed)
    joints = rng.normal(0, 0.4, (count, 24, 3))
    joints -= joints[:, :1]
    roots = np.stack([rng.uniform(-2, 2, count), rng.uniform(-1, 1, count),
                      rng.uniform(3, 9, count)], axis=1)
    placed = joints + roots[:, None]
    return joints, placed[..., :2] / placed[..., 2:], roots, rng


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_true_place_stays(seed):
    joints, rays, roots, rng = scene(seed)
    found = fit_roots(joints, rays, rng.uniform(0, 1, joints.shape[:2]), roots)
    np.testing.assert_allclose(found, roots, atol=1e-6)


def test_a_wrong_root_is_put_right_by_the_other_joints():
    joints, rays, roots, _ = scene(1)
    off = roots + [0.2, -0.1, 0.0]
    found = fit_roots(joints, rays, np.ones(joints.shape[:2]), off)
    np.testing.assert_allclose(found, roots, atol=1e-3)


def test_it_is_the_least_squares_solution():
    joints, rays, roots, rng = scene(2, count=1)
    rays = rays + rng.normal(0, 0.01, rays.shape)
    confidence = rng.uniform(0, 1, (1, 24))

    def errors(t):
        x, y, z = (joints[0] + t).T
        rows = confidence[0] * np.stack([x - rays[0, :, 0] * z, y - rays[0, :, 1] * z])
        return np.concatenate([rows.ravel(), (t - roots[0]) * [0.01, 0.01, 0.5]])
    expected = least_squares(errors, roots[0], xtol=1e-12, ftol=1e-12).x
    np.testing.assert_allclose(
        fit_roots(joints, rays, confidence, roots)[0], expected, atol=1e-5)


def test_joints_that_nobody_is_sure_of_move_nothing():
    joints, rays, roots, rng = scene(3)
    rays = rays + rng.normal(0, 0.3, rays.shape)
    found = fit_roots(joints, rays, np.zeros(joints.shape[:2]), roots)
    np.testing.assert_allclose(found, roots, atol=1e-9)


def test_a_fit_far_from_what_the_network_says_is_not_used():
    joints, rays, roots, _ = scene(4)
    # Seen six times as large, they would stand at a sixth of the distance.
    found = fit_roots(joints, 6 * rays, np.ones(joints.shape[:2]), roots)
    np.testing.assert_array_equal(found, roots)
