# SPDX-License-Identifier: Apache-2.0
"""Poses stay within limits and mean what their names say."""

from __future__ import annotations

from capsule_body import capsule_body
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmr_ros.training.synthetic.motions import MOTIONS, sample_angles, sample_poses, walk_cycle
from hmr_ros.training.synthetic.poses import COLUMN, LIMITS, Pose, mirrored, to_rotvecs


def _joints(pose: np.ndarray) -> np.ndarray:
    rotmats = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    return capsule_body().pose_joints(
        rotmats.astype(np.float32), np.zeros((len(pose), 10), np.float32))[0]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2 ** 31), st.sampled_from(sorted(MOTIONS)))
def test_every_angle_is_within_its_limits(seed: int, motion: str) -> None:
    angles, names = sample_angles(np.random.default_rng(seed), 40, (motion,))
    assert np.all(angles >= LIMITS[:, 0]) and np.all(angles <= LIMITS[:, 1])
    assert set(names) == {motion}


def test_knees_only_bend_backwards() -> None:
    pose = sample_poses(np.random.default_rng(0), 200)
    np.testing.assert_allclose(pose[:, [4, 5], 1:], 0, atol=1e-6)
    assert pose[:, [4, 5], 0].min() >= 0


@pytest.mark.parametrize('name, degrees, joint, axis, sign', [
    ('hip_flex_l', 60, 4, 2, 1), ('hip_flex_r', 60, 5, 2, 1), ('hip_abduct_l', 30, 4, 0, 1),
    ('hip_abduct_r', 30, 5, 0, -1), ('knee_r', 80, 8, 2, -1), ('elbow_l', 90, 20, 2, 1),
    ('elbow_r', 90, 21, 2, 1), ('arm_swing_l', 80, 18, 2, 1), ('arm_lower_r', -40, 19, 1, 1),
    ('spine_flex', 60, 15, 2, 1), ('spine_side', -25, 15, 0, 1), ('ankle_l', 25, 10, 1, 1)])
def test_a_named_angle_moves_its_joint_the_way_its_name_says(
        name: str, degrees: float, joint: int, axis: int, sign: int) -> None:
    rest, moved = Pose(1), Pose(1)
    moved[name] = degrees
    change = _joints(to_rotvecs(moved.angles)) - _joints(to_rotvecs(rest.angles))
    assert sign * change[0, joint, axis] > 0.03


def test_arms_hang_at_ease() -> None:
    joints = _joints(to_rotvecs(Pose(1).angles))[0]
    assert joints[20, 1] < joints[16, 1] - 0.4 and joints[21, 1] < joints[17, 1] - 0.4


def test_mirror_of_the_mirror_is_the_pose() -> None:
    pose = sample_poses(np.random.default_rng(1), 20)
    np.testing.assert_array_equal(mirrored(mirrored(pose)), pose)


def test_mirrored_angles_are_the_mirrored_pose() -> None:
    left, right = Pose(1), Pose(1)
    left['arm_swing_l'], right['arm_swing_r'] = 70, 70
    left['knee_l'], right['knee_r'] = 50, 50
    np.testing.assert_allclose(
        mirrored(to_rotvecs(left.angles)), to_rotvecs(right.angles), atol=1e-6)


def test_a_walk_repeats_after_a_cycle_and_steps_in_between() -> None:
    poses = walk_cycle(20, 16, np.random.default_rng(2))
    np.testing.assert_allclose(poses[16:], poses[:4], atol=1e-6)
    feet = _joints(poses)[:, [7, 8], 2]
    assert (feet[0, 0] - feet[0, 1]) * (feet[8, 0] - feet[8, 1]) < 0


def test_equal_seeds_give_equal_poses() -> None:
    one, two = (sample_poses(np.random.default_rng(5), 30) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, sample_poses(np.random.default_rng(6), 30))


def test_columns_cover_all_limits() -> None:
    assert sorted(COLUMN.values()) == list(range(len(LIMITS)))
    assert np.all(LIMITS[:, 0] < LIMITS[:, 1])
