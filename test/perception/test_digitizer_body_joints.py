# SPDX-License-Identifier: Apache-2.0
"""Joints of the digitizer from COCO's keypoints and from recovered bodies."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
import numpy as np
import pytest

from hmr_ros.body import load_body, load_whole_body
from hmr_ros.body.coco import foot_vertices
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.digitizer.body_joints import BodyJoints
from hmr_ros.perception.digitizer.joints import completed, Joints, JOINTS
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.person import HandsAndFace, Person
from hmr_ros.perception.posing import smpl_pose, whole_body_pose

CAMERA = Camera(900.0, 900.0, 640.0, 480.0, 1280, 960)
#: body axes to the optical frame: half a turn about x.
FACING = np.float32([np.pi, 0, 0])


def standing(hands_and_face=None):
    """Somebody at rest, three metres before the camera."""
    body = load_body()
    place = np.float32([0.2, 0.1, 3.0])
    person = Person(
        'p0', 1.0, np.zeros(4), np.zeros((2, 3)), FACING, np.zeros((23, 3), np.float32),
        np.zeros(10, np.float32), place - body.joint_template[0] * (1, -1, -1), np.zeros((24, 3)),
        np.zeros((24, 2)), np.ones(24), hands_and_face=hands_and_face)
    rotmats, betas = smpl_pose([person])
    _, joints = body.skin(rotmats, betas, person.transl[None].astype(np.float32))
    return replace(person, joints3d=joints[0])


def test_toes_and_heels_lie_where_the_whole_body_names_them():
    whole = load_whole_body()
    np.testing.assert_allclose(
        load_body().v_template[foot_vertices(load_body())],
        whole.v_template[whole.named_vertices[5:11]], atol=0.01)


def test_a_body_is_seen_with_all_but_three_fingers_of_each_hand():
    joints = BodyJoints(load_body()).of(standing(), CAMERA)
    missing = {JOINTS[i] for i in np.flatnonzero(~joints.found)}
    assert missing == {f'{side}_{finger}' for side in ('left', 'right')
                       for finger in ('index', 'ring', 'little')}
    at = dict(zip(JOINTS, joints.points))
    assert at['nose'][1] < at['left_shoulder'][1] < at['left_hip'][1] < at['left_heel'][1]
    for name in ('shoulder', 'hip', 'knee', 'heel', 'big_toe', 'middle', 'eye'):
        assert at[f'left_{name}'][0] > at[f'right_{name}'][0], 'face to face, left is right'
    assert at['left_small_toe'][0] > at['left_big_toe'][0]
    # Three metres away a person of 1.7 m is so tall.
    assert 900 * 1.7 / 3 * 0.8 < at['left_heel'][1] - at['nose'][1] < 900 * 1.7 / 3


def test_hands_of_a_whole_body_give_all_fingers():
    hands = np.random.default_rng(1).uniform(-0.1, 0.1, (2, 20, 3)) + (0, 0, 3)
    found = HandsAndFace(np.zeros((2, 15, 3), np.float32), np.zeros(3, np.float32),
                         np.zeros(10, np.float32), hands, np.zeros((2, 20, 2)))
    person = standing(found)
    joints = BodyJoints(load_whole_body()).of(person, CAMERA)
    assert joints.found.all()
    for side in (0, 1):
        fingers = joints.points[23 + 4 * side:27 + 4 * side]
        np.testing.assert_allclose(fingers, CAMERA.project(hands[side, 4::4]), atol=0.01)
    body = load_whole_body()
    vertices, _ = body.skin(*whole_body_pose([person]), person.transl[None].astype(np.float32))
    np.testing.assert_allclose(
        joints.points[17:23], CAMERA.project(vertices[0, body.named_vertices[5:11]]), atol=0.01)


def test_what_is_behind_the_camera_is_missing():
    person = standing()
    person = replace(person, transl=person.transl - np.float32([0, 0, 9]),
                     joints3d=person.joints3d - (0, 0, 9))
    assert not BodyJoints(load_body()).of(person, CAMERA).found.any()


@given(arrays.arrays(np.float64, (17, 3), elements=st.floats(0, 1000)))
def test_joints_of_coco_have_neither_feet_nor_hands(keypoints):
    joints = Joints.from_coco17(keypoints)
    np.testing.assert_array_equal(joints.points[:17], keypoints[:, :2])
    np.testing.assert_array_equal(joints.found[:17], keypoints[:, 2] > 0)
    assert not joints.found[17:].any()


def test_keypoints_of_another_number_are_refused():
    with pytest.raises(PerceptionError, match=r'COCO have shape \(18, 3\); expected \(17, 3\)'):
        Joints.from_coco17(np.zeros((18, 3)))


found_ones = arrays.arrays(bool, 31)


@given(found_ones, found_ones)
def test_only_missing_joints_are_completed(first, second):
    ours, theirs = Joints(np.full((31, 2), 1.0), first), Joints(np.full((31, 2), 2.0), second)
    both = completed(ours, theirs)
    np.testing.assert_array_equal(both.found, first | second)
    assert (both.points[first] == 1).all() and (both.points[~first & second] == 2).all()
