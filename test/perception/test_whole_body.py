# SPDX-License-Identifier: Apache-2.0
"""Whole-body people: what an engine that sees the truth gives comes back as the truth."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.body import load_whole_body
from hmr_ros.perception import rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import CropTransform, cut_crops
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.mesh_recovery import RecoverySettings
from hmr_ros.perception.person import PersonBox
from hmr_ros.perception.posing import smpl_pose, whole_body_pose
from hmr_ros.perception.recoveries import recovery_for, whole_bodies
from hmr_ros.perception.whole_body import (
    CROPS, decode, placed, VIRTUAL_FOCAL, WholeBodyRecovery)
from hmr_ros.perception.whole_body_smoothing import WholeBodySmoother

CAMERA = Camera(600.0, 580.0, 330.0, 250.0, 640, 480)
BOXES = [PersonBox(np.float32([100, 60, 220, 420]), 0.5, '1'),
         PersonBox(np.float32([300, 200, 500, 300]), 1.0, '2')]


@pytest.fixture(scope='module')
def body():
    return load_whole_body()


def random_outputs(count: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """What an engine gives for N random people upright before it."""
    rng = np.random.default_rng(seed)
    turns = rng.normal(0, 0.3, (count, 53, 3))
    turns[:, 0] += (np.pi, 0, 0)
    six = rotations.matrix_to_6d(rotations.axis_angle_to_matrix(turns)).reshape(count, -1)
    parts = np.split(six.astype(np.float32), np.cumsum([6, 126, 90, 90]), 1)
    outputs = dict(zip(('root', 'body_pose', 'left_hand', 'right_hand', 'jaw'), parts))
    return {**outputs, 'shape': rng.normal(0, 1, (count, 10)).astype(np.float32),
            'expression': rng.normal(0, 1, (count, 10)).astype(np.float32),
            'transl': np.float32([[0.1, -0.05, 40.0], [-0.2, 0.1, 25.0]])[:count]}


class Truthful:
    """An engine that gives the same outputs for the same places of a batch."""

    entry = type('Entry', (), {
        'network': 'bidrn', 'name': 'bidrn', 'image_size': 256, 'mean': (0, 0, 0),
        'std': (1, 1, 1), 'projection': 'real_camera', 'body_model': '', 'body_model_sha256': ''})

    def __init__(self, outputs: dict[str, np.ndarray]) -> None:
        self.outputs, self.shapes = outputs, []

    def run(self, feeds):
        self.shapes.append(feeds['image'].shape)
        return {name: value[:len(feeds['image'])] for name, value in self.outputs.items()}


@given(depth=st.floats(5, 56), x=st.floats(-0.5, 0.5), y=st.floats(-0.5, 0.5),
       side=st.floats(20, 2000))
@settings(max_examples=50, deadline=None)
def test_people_keep_their_pixels_and_their_size_in_the_image(depth, x, y, side) -> None:
    crop = CropTransform(200.0, 150.0, side, 256)
    found = placed(np.array([[x, y, depth]]), [crop], CAMERA)[0]
    virtual = VIRTUAL_FOCAL * np.array([x, y]) / depth + 128
    square = Camera(600.0, 600.0, 330.0, 250.0, 640, 480)
    seen = square.project(placed(np.array([[x, y, depth]]), [crop], square))[0]
    np.testing.assert_allclose(seen, crop.to_image(virtual), rtol=1e-4, atol=1e-2)
    # A metre covers as many pixels as in the crop.
    in_crop, in_image = VIRTUAL_FOCAL / depth * side / 256, np.sqrt(600 * 580) / found[2]
    assert in_image == pytest.approx(in_crop, rel=1e-6)


def test_an_engine_that_knows_the_truth_gives_the_mesh_of_it(body) -> None:
    outputs = random_outputs()
    people = WholeBodyRecovery(Truthful(outputs), body, RecoverySettings(image_size=256)).recover(
        np.zeros((480, 640, 3), np.uint8), 'bgr', CAMERA, BOXES)
    pose = rotations.matrix_to_axis_angle(rotations.matrix_from_6d(np.concatenate(
        [outputs[name] for name in ('root', 'body_pose', 'left_hand', 'right_hand', 'jaw')],
        1).reshape(2, 53, 6)))
    transl = np.stack([person.transl for person in people])
    vertices, joints = body.posed(pose, outputs['shape'], outputs['expression'], transl)
    again, _ = body.skin(*whole_body_pose(people), transl)
    np.testing.assert_allclose(again, vertices, atol=1e-5)
    np.testing.assert_allclose([p.joints3d[:22] for p in people], joints[:, :22], atol=1e-5)
    # Tips of left thumb and right little finger.
    np.testing.assert_allclose(
        [p.hands_and_face.hand_joints3d[[0, 1], [3, 19]] for p in people], joints[:, [66, 75]],
        atol=1e-5)


def test_joints_are_where_their_pixels_say(body) -> None:
    people = WholeBodyRecovery(
        Truthful(random_outputs()), body, RecoverySettings(image_size=256)).recover(
        np.zeros((480, 640, 3), np.uint8), 'bgr', CAMERA, BOXES)
    for person in people:
        np.testing.assert_allclose(person.joints2d, CAMERA.project(person.joints3d), atol=1e-3)
        hands = person.hands_and_face
        np.testing.assert_allclose(
            hands.hand_joints2d, CAMERA.project(hands.hand_joints3d), atol=1e-3)
    assert [person.score for person in people] == [0.5, 1.0]


def test_hands_of_the_24_joints_are_knuckles_that_do_not_turn(body) -> None:
    outputs = random_outputs()
    found = decode(outputs, [CROPS.place(box.box, 256) for box in BOXES], CAMERA, body)
    people = WholeBodyRecovery(Truthful(outputs), body, RecoverySettings(image_size=256)).recover(
        np.zeros((480, 640, 3), np.uint8), 'bgr', CAMERA, BOXES)
    rotmats, betas = smpl_pose(people)
    assert rotmats.shape == (2, 24, 3, 3) and betas.shape == (2, 10)
    np.testing.assert_allclose(rotmats[:, 22:], np.tile(np.eye(3), (2, 2, 1, 1)), atol=1e-6)
    middles = np.stack([person.joints3d[22:] for person in people])
    np.testing.assert_allclose(middles, found.hand_joints3d[:, :, 8], atol=1e-6)


def test_crops_are_three_by_four_and_hold_the_box(body) -> None:
    engine = Truthful(random_outputs())
    WholeBodyRecovery(engine, body, RecoverySettings(image_size=256)).recover(
        np.zeros((480, 640, 3), np.uint8), 'bgr', CAMERA, BOXES)
    assert engine.shapes == [(2, 3, 256, 192)]
    for box in BOXES:
        crop = CROPS.place(box.box, 256)
        corners = crop.to_crop(box.box.reshape(2, 2))
        columns = CROPS.columns(256)
        assert (corners[0] >= (columns.start, 0)).all() and (corners[1] <= (columns.stop, 256)).all()


def test_columns_of_a_crop_are_its_middle() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    crop = [CropTransform(50.0, 50.0, 64.0, 64)]
    square = cut_crops(image, 'rgb', crop, 64, (0, 0, 0), (1, 1, 1))
    middle = cut_crops(image, 'rgb', crop, 64, (0, 0, 0), (1, 1, 1), CROPS)
    np.testing.assert_array_equal(middle, square[..., 8:56])


def test_who_is_behind_the_camera_is_nobody(body) -> None:
    outputs = random_outputs()
    outputs['transl'][0, 2] = 0.2
    recovery = WholeBodyRecovery(Truthful(outputs), body, RecoverySettings(image_size=256))
    people = recovery.recover(np.zeros((480, 640, 3), np.uint8), 'bgr', CAMERA, BOXES)
    assert [person.track_id for person in people] == ['2'] and recovery.rejected_people == 1


@pytest.mark.parametrize('field', ['hand_pose', 'jaw_pose', 'expression', 'hand_joints3d'])
def test_who_has_hands_or_a_face_of_nan_is_not_given_out(body, field) -> None:
    people = WholeBodyRecovery(
        Truthful(random_outputs()), body, RecoverySettings(image_size=256)).recover(
        np.zeros((480, 640, 3), np.uint8), 'bgr', CAMERA, BOXES)
    hands = people[0].hands_and_face
    broken = replace(hands, **{field: np.full_like(getattr(hands, field), np.nan)})
    people[0] = replace(people[0], hands_and_face=broken)
    smoother = WholeBodySmoother(body)
    assert [person.track_id for person in smoother.smooth(people, CAMERA, 1.0)] == ['2']
    assert (smoother.record.left_out, smoother.record.smoothed) == (1, 1)


def test_an_engine_of_another_network_is_refused_by_its_output(body) -> None:
    outputs = random_outputs()
    del outputs['jaw']
    recovery = WholeBodyRecovery(Truthful(outputs), body, RecoverySettings(image_size=256))
    with pytest.raises(PerceptionError, match="no output 'jaw'"):
        recovery.recover(np.zeros((480, 640, 3), np.uint8), 'bgr', CAMERA, BOXES)


def test_the_manifest_says_who_reads_an_engine(body) -> None:
    engine = Truthful(random_outputs())
    assert isinstance(recovery_for(engine, body, 5), WholeBodyRecovery)
    plain = type('Plain', (), {'entry': None})()
    assert whole_bodies([engine]) and not whole_bodies([plain, plain])
    with pytest.raises(PerceptionError, match='engine.near and engine.far'):
        whole_bodies([engine, plain])


def test_a_smile_is_there_in_half_a_second_and_the_build_is_not(body) -> None:
    outputs = {name: value[:1] for name, value in random_outputs().items()}
    smoother = WholeBodySmoother(body)
    shown = []
    for frame in range(9):
        outputs['shape'] = outputs['expression'] = np.full((1, 10), float(frame > 0), np.float32)
        people = WholeBodyRecovery(Truthful(outputs), body, RecoverySettings(image_size=256)
                                   ).recover(np.zeros((480, 640, 3), np.uint8), 'bgr', CAMERA,
                                             BOXES[:1])
        shown += smoother.smooth(people, CAMERA, frame / 15)
    assert shown[-1].hands_and_face.expression.min() > 0.63 > 0.4 > shown[-1].betas.max()
    assert shown[1].hands_and_face.expression.max() < 0.9, 'it is smoothed at all'
