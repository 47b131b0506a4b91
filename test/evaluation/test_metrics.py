# SPDX-License-Identifier: Apache-2.0
"""Metrics against independent references and the properties that define them."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.transform import Rotation

from hmr_ros.evaluation import metrics
from hmr_ros.evaluation.errors import EvaluationError

SEEDS = st.integers(0, 2 ** 32 - 1)
QUICK = settings(max_examples=40, deadline=None)


def people(rng, count=5):
    return rng.normal(size=(count, 24, 3)) * [0.2, 0.5, 0.15]


def similarity(rng, points):
    """Return `points` (N, J, 3) after a random rotation, scale and shift of each person."""
    turn = Rotation.random(len(points), random_state=rng).as_matrix()
    scale = np.exp(rng.normal(0, 0.5, (len(points), 1, 1)))
    return scale * points @ turn + rng.normal(0, 3, (len(points), 1, 3))


@QUICK
@given(SEEDS)
def test_pa_mpjpe_ignores_similarities_but_not_mirrors(seed):
    rng = np.random.default_rng(seed)
    true = people(rng)
    assert metrics.pa_mpjpe(similarity(rng, true), true) < 1e-9
    noisy = true + rng.normal(0, 0.05, true.shape)
    error = metrics.pa_mpjpe(noisy, true)
    assert metrics.pa_mpjpe(similarity(rng, noisy), true) == pytest.approx(error, rel=1e-6)
    assert metrics.pa_mpjpe(true * [-1, 1, 1], true) > 0.02


@QUICK
@given(SEEDS)
def test_mpjpe_ignores_shifts_only(seed):
    rng = np.random.default_rng(seed)
    true = people(rng)
    assert metrics.mpjpe(true, true) == 0
    assert metrics.mpjpe(true + rng.normal(size=(5, 1, 3)), true) < 1e-12
    grown = true[:, :1] + 1.1 * (true - true[:, :1])
    expected = 0.1 * np.linalg.norm(true - true[:, :1], axis=-1).mean()
    assert metrics.mpjpe(grown, true) == pytest.approx(expected)


def test_procrustes_equals_scipy_where_scipy_may_not_mirror():
    # scipy scales both shapes to unit size and permits mirrors, which small noise never needs.
    rng = np.random.default_rng(3)
    true = people(rng)
    noisy = similarity(rng, true + rng.normal(0, 0.03, true.shape))
    moved = metrics.procrustes(noisy, true)
    for got, predicted, target in zip(moved, noisy, true):
        standard, fitted, _ = scipy_procrustes(target, predicted)
        size = np.linalg.norm(target - target.mean(axis=0))
        np.testing.assert_allclose(
            np.linalg.norm(got - target, axis=1),
            size * np.linalg.norm(standard - fitted, axis=1), atol=1e-9)


def test_procrustes_is_the_least_squares_rotation_for_a_mirrored_body():
    rng = np.random.default_rng(5)
    true = people(rng, 1)
    mirrored = true * [-1, 1, 1]

    def cost(parameters):
        turn = Rotation.from_rotvec(parameters[:3]).as_matrix()
        moved = np.exp(parameters[3]) * mirrored[0] @ turn + parameters[4:]
        return np.sum((moved - true[0]) ** 2)

    starts = rng.normal(size=(12, 7)) * [2, 2, 2, .1, .1, .1, .1]
    best = min(minimize(cost, start).fun for start in starts)
    got = np.sum((metrics.procrustes(mirrored, true) - true) ** 2)
    assert got == pytest.approx(best, rel=1e-4)


def test_coinciding_points_go_to_the_true_centre():
    true = people(np.random.default_rng(0), 2)
    moved = metrics.procrustes(np.ones_like(true), true)
    np.testing.assert_allclose(moved, np.broadcast_to(true.mean(1, keepdims=True), true.shape))


def test_acceleration_ignores_place_and_speed():
    rng = np.random.default_rng(5)
    true = rng.normal(size=(9, 4, 3))
    drift = np.arange(9)[:, None, None] * rng.normal(size=(1, 4, 3)) + rng.normal(size=(1, 4, 3))
    np.testing.assert_allclose(metrics.acceleration_errors(true + drift, true), 0, atol=1e-12)
    bump = np.zeros((9, 4, 3))
    bump[4, 2, 1] = 0.5
    errors = metrics.acceleration_errors(true + bump, true)
    np.testing.assert_allclose(errors[2:5, 2], [0.5, 1.0, 0.5])
    assert errors.sum() == pytest.approx(2)


def test_torso_is_the_longer_diagonal():
    joints = np.zeros((1, 24, 2))
    joints[0, metrics.LEFT_SHOULDER], joints[0, metrics.RIGHT_SHOULDER] = (14, 0), (0, 0)
    joints[0, metrics.LEFT_HIP], joints[0, metrics.RIGHT_HIP] = (10, 40), (4, 40)
    assert metrics.torso_size(joints) == pytest.approx(np.hypot(10, 40))
    joints[0, metrics.RIGHT_SHOULDER] = (0, -20)
    assert metrics.torso_size(joints) == pytest.approx(np.hypot(10, 60))


def test_pck_counts_only_valid_joints_and_lost_ones_as_misses():
    true = np.zeros((2, 3, 2))
    predicted = true.copy()
    predicted[0, :, 0] = [0, 9, 11]
    predicted[1, :, 1] = [19, 21, np.nan]
    torso = np.float64([50, 100])
    valid = np.array([[1, 1, 1], [0, 1, 1]])
    got = metrics.pck(predicted, true, torso, [0.2, 0.5], valid)
    np.testing.assert_allclose(got, [100 * 2 / 5, 100 * 4 / 5])
    hits = metrics.pck_hits(predicted, true, torso, [0.2], valid)
    np.testing.assert_array_equal(hits[0], [[1, 1, 0], [np.nan, 0, 0]])
    per_joint = metrics.mean_percent(hits[0], axis=0)
    np.testing.assert_allclose(per_joint, [100, 50, 0])
    assert np.isnan(metrics.pck(predicted, true, torso, [0.2], 0 * valid))


def test_pck_refuses_a_torso_of_no_size():
    with pytest.raises(EvaluationError, match='torso of person 1 is 0'):
        metrics.pck(np.zeros((2, 1, 2)), np.zeros((2, 1, 2)), [3, 0], [0.2], np.ones((2, 1)))
