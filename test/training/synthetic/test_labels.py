# SPDX-License-Identifier: Apache-2.0
"""Labels under mirror and turn, and the definition of twist."""

from __future__ import annotations

from capsule_body import capsule_body
import numpy as np
from scipy.spatial.transform import Rotation

from hmr_ros.perception.skeleton import SWING_CHILDREN
from hmr_ros.training.synthetic import CutoutStore
from hmr_ros.training.synthetic.labels import (
    SWAP_96, flip_labels, keypoint_targets, turn_labels, twist_labels)
from hmr_ros.training.synthetic.motions import sample_poses

NAMES = ('rotmats', 'joints3d', 'markers3d', 'rendered', 'phi', 'betas')


def _labels(store: CutoutStore) -> dict[str, np.ndarray]:
    return {name: getattr(store, name) for name in NAMES}


def test_flip_twice_changes_nothing(store: CutoutStore) -> None:
    labels = _labels(store)
    again = flip_labels(flip_labels(labels))
    for name in NAMES:
        np.testing.assert_array_equal(again[name], labels[name])
    assert not np.array_equal(flip_labels(labels)['phi'], labels['phi'])


def test_swap_is_an_involution_with_five_middle_markers() -> None:
    np.testing.assert_array_equal(SWAP_96[SWAP_96], np.arange(96))
    middle = np.flatnonzero(SWAP_96[29:] == np.arange(29, 96))
    np.testing.assert_array_equal(middle, [15, 23, 27, 60, 61])


def test_flipped_rotations_give_flipped_joints(store: CutoutStore) -> None:
    labels = flip_labels(_labels(store))
    joints = capsule_body().pose_joints(labels['rotmats'], labels['betas'])[0]
    np.testing.assert_allclose(joints - joints[:, :1], labels['joints3d'][:, :24] -
                               labels['joints3d'][:, :1], atol=0.025)


def test_turned_rotations_give_turned_joints(store: CutoutStore) -> None:
    angle = np.linspace(-1, 1, len(store))
    turns = Rotation.from_euler('z', angle[:, None]).as_matrix()[:, :2, :2].astype(np.float32)
    labels = turn_labels(_labels(store), turns)
    joints = capsule_body().pose_joints(labels['rotmats'], labels['betas'])[0]
    np.testing.assert_allclose(joints - joints[:, :1], labels['joints3d'][:, :24] -
                               labels['joints3d'][:, :1], atol=1e-5)


def test_twist_and_swing_make_up_the_rotation() -> None:
    body, pose = capsule_body(), sample_poses(np.random.default_rng(0), 20)
    betas = np.zeros((20, 10), np.float32)
    rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], axis=1)
    rotmats = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(20, 24, 3, 3)
    phi = twist_labels(rotmats.astype(np.float32), rest)
    np.testing.assert_allclose(np.linalg.norm(phi, axis=-1), 1, atol=1e-5)
    for i in range(20):
        for j in range(1, 24):
            bone = rest[i, SWING_CHILDREN[j]] - rest[i, j]
            bone = bone / np.linalg.norm(bone)
            whole = Rotation.from_rotvec(pose[i, j])
            twist = Rotation.from_rotvec(bone * np.arctan2(phi[i, j - 1, 1], phi[i, j - 1, 0]))
            swing = whole * twist.inv()
            axis = np.cross(bone, whole.apply(bone))
            # the smallest rotation has no part about the bone
            assert abs(swing.as_rotvec() @ bone) < 1e-4
            assert swing.magnitude() < np.arctan2(
                np.linalg.norm(axis), bone @ whole.apply(bone)) + 1e-3


def test_targets_outside_the_crop_have_no_weight() -> None:
    pixels = np.float32([[[128, 128], [257, 10], [0, 256], [5, -1], [9, 9]]])
    uvd, weight = keypoint_targets(pixels, np.float32([[0, 0, 1.0, 0, 1.2]]), 256)
    np.testing.assert_array_equal(weight[0, :, 0], [1, 0, 1, 0, 0])
    np.testing.assert_allclose(uvd[0, 0], [0, 0, 0], atol=1e-7)
