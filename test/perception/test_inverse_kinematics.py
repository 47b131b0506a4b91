# SPDX-License-Identifier: Apache-2.0
"""Acceptance checks 7 and 8 of the keypoint_guided sheet, twists and degenerate skeletons."""

from bodies import random_rotations, rest_skeleton
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmr_ros.perception import inverse_kinematics as ik
from hmr_ros.perception.skeleton import LEVELS, PARENTS, SWING_CHILDREN

COUNT = 1000


@pytest.fixture(scope='module')
def people():
    rest, rotmats = rest_skeleton(COUNT), random_rotations(COUNT)
    joints, _ = ik.forward_kinematics(rotmats, rest)
    twists = ik.twist_angles(rotmats, rest)
    phi = np.stack([np.cos(twists), np.sin(twists)], axis=-1)
    return rest, rotmats, joints - joints[:, :1], phi


def joint_error_mm(rotmats, rest, points):
    joints, _ = ik.forward_kinematics(rotmats, rest)
    return 1000 * np.linalg.norm(joints - joints[:, :1] - points, axis=-1)


def test_tree_is_consistent():
    for joint in range(1, 24):
        assert PARENTS[SWING_CHILDREN[joint]] == joint
    assert sorted(np.concatenate(LEVELS)) == list(range(1, 24))
    for earlier, level in enumerate(LEVELS):
        done = {0, *np.concatenate([[0], *LEVELS[:earlier]])}
        assert all(PARENTS[joint] in done for joint in level)


@pytest.mark.parametrize('targets', ['adaptive', 'naive'])
@pytest.mark.parametrize('root', [ik.horn_root, ik.svd_root])
def test_exact_skeletons_give_back_the_pose(people, targets, root):
    rest, rotmats, points, phi = people
    solved = ik.solve_rotations(points, rest, phi, targets=targets, root=root)
    assert solved.dtype == np.float32
    assert np.abs(solved - rotmats).max() < 1e-3
    assert joint_error_mm(solved, rest, points).max() < 0.1


def test_adaptive_reaches_noisy_joints_better_than_naive(people):
    rest, _, points, phi = people
    noisy = points + np.random.default_rng(3).normal(0, 0.010, points.shape)
    noisy -= noisy[:, :1]
    errors = {
        targets: joint_error_mm(
            ik.solve_rotations(noisy, rest, phi, targets=targets), rest, noisy).mean()
        for targets in ('adaptive', 'naive')}
    assert errors['adaptive'] < errors['naive']


@pytest.mark.parametrize('noise_mm', [0, 20, 60])
def test_horn_root_equals_svd_root(people, noise_mm):
    rest, _, points, _ = people
    noise = np.random.default_rng(4).normal(0, noise_mm / 1000, points.shape)
    bones = np.zeros_like(rest)
    bones[:, 1:] = rest[:, 1:] - rest[:, PARENTS[1:]]
    noisy = np.float64(points) + noise
    horn, svd = ik.horn_root(noisy, bones), ik.svd_root(noisy, bones)
    assert np.abs(horn - svd).max() < 1e-5


def test_scaled_twists_and_unpelvised_points_change_nothing(people):
    rest, rotmats, points, phi = (array[:5] for array in people)
    solved = ik.solve_rotations(points + [3, 2, 1], rest, 0.3 * phi)
    assert np.abs(solved - rotmats).max() < 1e-3


def check_rotations(rotmats):
    assert np.all(np.isfinite(rotmats))
    assert np.abs(np.linalg.det(rotmats) - 1).max() < 1e-3
    assert np.abs(rotmats @ np.swapaxes(rotmats, -1, -2) - np.eye(3)).max() < 1e-3


@pytest.mark.parametrize('targets', ['adaptive', 'naive'])
@pytest.mark.parametrize('root', [ik.horn_root, ik.svd_root])
def test_degenerate_skeletons(targets, root):
    rest = rest_skeleton()
    at_rest = rest - rest[:, :1]
    flat, huge, one_bone = at_rest.copy(), at_rest * 1e3, at_rest.copy()
    flat[..., 2] = 0
    one_bone[:, 7] = one_bone[:, 4]
    turned = at_rest * np.float32([1, -1, 1])
    cases = np.concatenate([np.zeros_like(at_rest), flat, huge, one_bone, -at_rest, turned])
    phi = np.zeros((len(cases), 23, 2))
    solved = ik.solve_rotations(cases, np.repeat(rest, len(cases), 0), phi, targets, root)
    check_rotations(solved)
    # Nothing observed: the rest pose.
    np.testing.assert_allclose(solved[0], np.broadcast_to(np.eye(3), (24, 3, 3)), atol=1e-6)
    without_shin = rest.copy()
    without_shin[:, 7] = without_shin[:, 4]
    check_rotations(ik.solve_rotations(at_rest, without_shin, phi[:1], targets, root))


@pytest.mark.parametrize('targets', ['adaptive', 'naive'])
def test_antiparallel_bone_turns_by_half_a_circle(targets):
    rest = rest_skeleton()
    points = rest - rest[:, :1]
    # The left lower leg points straight back up along the thigh-knee line of the rest pose.
    bone = points[:, 7] - points[:, 4]
    for joint in (7, 10, 27):
        points[:, joint] = points[:, joint] - 2 * bone
    phi = np.tile([1.0, 0.0], (1, 23, 1))
    solved = ik.solve_rotations(points, rest, phi, targets=targets)
    check_rotations(solved)
    np.testing.assert_allclose(
        (solved[:, 4] @ bone[..., None])[..., 0], -bone, atol=1e-5)


def test_twist_label_is_the_angle_that_was_put_in():
    rest = rest_skeleton()
    rng = np.random.default_rng(5)
    angles = rng.uniform(-3.1, 3.1, 23)
    rotmats = np.tile(np.eye(3), (1, 24, 1, 1))
    for joint in range(1, 24):
        bone = np.float64(rest[0, SWING_CHILDREN[joint]] - rest[0, joint])
        bone /= np.linalg.norm(bone)
        across = np.cross(bone, rng.normal(size=3))
        across *= rng.uniform(0, 2.5) / np.linalg.norm(across)
        rotmats[0, joint] = (
            Rotation.from_rotvec(across) * Rotation.from_rotvec(bone * angles[joint - 1])
        ).as_matrix()
    np.testing.assert_allclose(ik.twist_angles(rotmats, rest)[0], angles, atol=1e-6)
