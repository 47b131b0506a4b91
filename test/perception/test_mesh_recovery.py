# SPDX-License-Identifier: Apache-2.0
"""People come back whole from exact outputs; bad boxes and NaN are counted, never raised."""

from types import SimpleNamespace

from bodies import point_body, random_rotations
import numpy as np
import pytest

from hmr_ros.perception import inverse_kinematics as ik
from hmr_ros.perception import keypoint_guided, rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crop_plan import plan_crops
from hmr_ros.perception.crops import CropTransform
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.mesh_recovery import MeshRecovery, RecoverySettings, settings_for
from hmr_ros.perception.person import PersonBox
from hmr_ros.perception.rsc_net_recovery import RscNetRecovery

CAMERA = Camera(600.0, 600.0, 320.0, 240.0, 640, 480)
IMAGE = np.zeros((480, 640, 3), np.uint8)


class ScriptedEngine:
    """Plays the exact outputs for a list of people, batch after batch."""

    def __init__(self, outputs):
        self.outputs, self.position, self.batches = outputs, 0, []

    def run(self, feeds):
        count = len(feeds['image'])
        self.batches.append(count)
        rows = slice(self.position, self.position + count)
        self.position += count
        return {name: array[rows] for name, array in self.outputs.items()}


def scene(count):
    """Return poses, betas, root positions, boxes and the exact engine outputs of some people."""
    body = point_body()
    rng = np.random.default_rng(2)
    rotmats, betas = random_rotations(count, 0.5), rng.normal(size=(count, 10)).astype(np.float32)
    rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], axis=1)
    joints, _ = ik.forward_kinematics(rotmats, rest)
    root = np.stack(
        [rng.uniform(-1, 1, count), rng.uniform(-.5, .5, count), rng.uniform(3, 8, count)], 1)
    joints = joints - joints[:, :1] + root[:, None].astype(np.float32)
    pixels = CAMERA.project(joints)
    boxes = [PersonBox(np.concatenate([p.min(0), p.max(0)]), 0.9, f'p{i}')
             for i, p in enumerate(pixels)]
    transforms = [CropTransform.from_box(box.box, 256) for box in boxes]
    uvd, scale = keypoint_guided.encode(joints, transforms, CAMERA)
    twists = ik.twist_angles(rotmats, rest)
    outputs = {
        'uvd': np.concatenate([uvd, np.zeros((count, 67, 3), np.float32)], 1),
        'sigma': np.full((count, 96, 3), 0.25, np.float32),
        'phi': np.stack([np.cos(twists), np.sin(twists)], -1).astype(np.float32), 'betas': betas,
        'cam': np.stack([scale, 0 * scale, 0 * scale], 1)}
    return body, rotmats, joints, boxes, outputs


def test_people_come_back_in_order_over_several_batches():
    body, rotmats, joints, boxes, outputs = scene(5)
    engine = ScriptedEngine(outputs)
    recovery = MeshRecovery(engine, body, RecoverySettings(max_batch=2))
    people = recovery.recover(IMAGE, 'bgr', CAMERA, boxes)
    assert engine.batches == [2, 2, 1]
    assert [person.track_id for person in people] == ['p0', 'p1', 'p2', 'p3', 'p4']
    for i, person in enumerate(people):
        assert np.abs(rotations.axis_angle_to_matrix(person.pose) - rotmats[i]).max() < 2e-3
        np.testing.assert_allclose(person.joints3d, joints[i, :24], atol=1e-3)
        np.testing.assert_allclose(person.joints2d, CAMERA.project(joints[i, :24]), atol=0.3)
        # The mesh and the joints of a person must tell the same story.
        _, skinned = body.skin(
            rotations.axis_angle_to_matrix(person.pose)[None], person.betas[None],
            person.transl[None])
        np.testing.assert_allclose(skinned[0], person.joints3d, atol=1e-5)
        chance = (1 - np.exp(-keypoint_guided.NEAR / 0.25)) ** 2
        assert person.score == pytest.approx(0.9 * chance, abs=1e-5)
        for array in (person.pose, person.transl, person.joints3d, person.crop_transform):
            assert array.dtype == np.float32


class CroppingEngine(ScriptedEngine):
    """Plays outputs too, and notes what it was asked to cut."""

    def __init__(self, outputs):
        super().__init__(outputs)
        self.asked = []

    def run_crops(self, image, plan, feeds):
        self.asked.append((image, plan, feeds))
        return super().run({'image': np.empty(len(plan))})

    def run(self, feeds):
        raise AssertionError('the batch was made on the processor')


def test_an_engine_that_cuts_crops_is_given_the_image_and_the_plan():
    body, _, joints, boxes, outputs = scene(5)
    engine = CroppingEngine(outputs)
    recovery = MeshRecovery(engine, body, RecoverySettings(max_batch=2))
    outside = PersonBox(np.float32([700, 10, 760, 100]), 0.9, 'away')
    people = recovery.recover(IMAGE, 'bgr', CAMERA, [outside, *boxes])
    assert engine.batches == [2, 2, 1] and recovery.rejected_boxes == 1
    np.testing.assert_allclose(people[4].joints3d, joints[4, :24], atol=1e-3)
    transforms = [CropTransform.from_box(box.box, 256) for box in boxes]
    whole = plan_crops('bgr', transforms, 256, RecoverySettings.mean, RecoverySettings.std)
    for (image, plan, feeds), rows in zip(engine.asked, (slice(0, 2), slice(2, 4), slice(4, 5))):
        assert image is IMAGE and feeds == {} and plan.channels == (2, 1, 0)
        np.testing.assert_array_equal(plan.positions, whole.positions[rows])
        np.testing.assert_array_equal(plan.finer, whole.finer[rows])
    assert recovery.recover(IMAGE, 'bgr', CAMERA, [outside]) == []


def test_an_engine_that_cannot_cut_after_all_and_other_styles_get_batches():
    body, _, _, boxes, outputs = scene(2)
    engine = ScriptedEngine(outputs)
    engine.run_crops = None
    assert len(MeshRecovery(engine, body).recover(IMAGE, 'bgr', CAMERA, boxes)) == 2
    other = CroppingEngine({})
    with pytest.raises(AssertionError, match='made on the processor'):
        RscNetRecovery(other, body).recover(IMAGE, 'bgr', CAMERA, boxes)


def test_bad_boxes_and_nan_people_are_dropped_and_counted():
    body, _, _, boxes, outputs = scene(3)
    outputs['uvd'][1, 5, 0] = np.nan
    recovery = MeshRecovery(ScriptedEngine(outputs), body)
    outside = PersonBox(np.float32([700, 10, 760, 100]), 0.9, 'away')
    people = recovery.recover(IMAGE, 'bgr', CAMERA, [boxes[0], outside, boxes[1], boxes[2]])
    assert [person.track_id for person in people] == ['p0', 'p2']
    assert (recovery.rejected_boxes, recovery.rejected_people) == (1, 1)
    assert recovery.record.people == 2 and recovery.record.network_ms >= 0


def test_nobody_is_an_empty_list_without_a_call_of_the_engine():
    engine = ScriptedEngine({})
    recovery = MeshRecovery(engine, point_body())
    assert recovery.recover(IMAGE, 'bgr', CAMERA, []) == []
    assert recovery.recover(
        IMAGE, 'bgr', CAMERA, [PersonBox(np.float32([np.nan] * 4))]) == []
    assert engine.batches == []


def test_the_best_boxes_win_when_there_are_too_many():
    body, _, _, boxes, outputs = scene(3)
    scored = [PersonBox(box.box, score, box.track_id)
              for box, score in zip(boxes, (0.2, 0.9, 0.5))]
    recovery = MeshRecovery(ScriptedEngine(outputs), body, RecoverySettings(max_people=2))
    people = recovery.recover(IMAGE, 'bgr', CAMERA, scored)
    assert [person.track_id for person in people] == ['p1', 'p2']


def test_camera_of_another_resolution_is_scaled():
    body, _, joints, boxes, outputs = scene(2)
    recovery = MeshRecovery(ScriptedEngine(outputs), body)
    people = recovery.recover(IMAGE, 'bgr', CAMERA.resized(1280, 960), boxes)
    np.testing.assert_allclose(people[1].joints3d, joints[1, :24], atol=1e-3)


def test_engine_of_another_network_is_named():
    body, _, _, boxes, outputs = scene(1)
    del outputs['phi']
    with pytest.raises(PerceptionError, match='phi'):
        MeshRecovery(ScriptedEngine(outputs), body).recover(IMAGE, 'bgr', CAMERA, boxes)


def test_settings_come_from_the_manifest_and_the_body_must_be_the_one():
    body = point_body()
    facts = SimpleNamespace(
        name='net', image_size=192, mean=(0, 0, 0), std=(1, 1, 1), projection='known_box',
        body_model='points', body_model_sha256=body.sha256)
    settings = settings_for(facts, body)
    assert settings.image_size == 192 and settings.projection.value == 'known_box'
    assert settings_for(None, body) == RecoverySettings()
    facts.body_model_sha256 = 'f' * 64
    with pytest.raises(PerceptionError, match="'net' was trained for the body model"):
        settings_for(facts, body)
