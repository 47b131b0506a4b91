# SPDX-License-Identifier: Apache-2.0
"""Engines of other networks, and two engines for people near and far."""

from types import SimpleNamespace

from bodies import point_body, random_rotations
import numpy as np
import pytest

from hmr_ros.perception import rotations, rsc_net
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.mesh_recovery import MeshRecovery, RecoverySettings
from hmr_ros.perception.person import PersonBox
from hmr_ros.perception.recoveries import HYSTERESIS, NearFarRecovery, recovery_for
from hmr_ros.perception.rsc_net_recovery import RscNetRecovery

CAMERA = Camera(600.0, 600.0, 320.0, 240.0, 640, 480)
IMAGE = np.zeros((480, 640, 3), np.uint8)
SETTINGS = RecoverySettings(image_size=224, max_batch=2)


class RscEngine:
    """Gives each crop the next of known bodies, and keeps what it was fed."""

    def __init__(self, count=8):
        rng = np.random.default_rng(0)
        self.rotmats, self.betas = random_rotations(count, 0.5), rng.normal(size=(count, 10))
        self.feeds, self.position, self.scale = [], 0, np.full(count, 0.9)

    def run(self, feeds):
        self.feeds.append(feeds)
        rows = slice(self.position, self.position + len(feeds['image']))
        self.position += len(feeds['image'])
        pose6d = rotations.matrix_to_6d(self.rotmats[rows]).reshape(-1, 144)
        cam = np.stack([self.scale[rows], 0 * self.scale[rows], 0 * self.scale[rows]], 1)
        return {'pose6d': pose6d.astype(np.float32), 'betas': self.betas[rows].astype(np.float32),
                'cam': cam.astype(np.float32),
                'feature': np.ones((len(pose6d), 2048), np.float32)}


def box(x, height, name=''):
    return PersonBox(np.float32([x, 100, x + 0.4 * height, 100 + height]), 0.9, name)


def test_rsc_net_is_told_the_resolution_and_read_its_own_way():
    engine, body = RscEngine(), point_body()
    recovery = RscNetRecovery(engine, body, SETTINGS)
    boxes = [box(50, 200, 'a'), box(200, 60, 'b'), box(300, 25, 'c')]
    people = recovery.recover(IMAGE, 'bgr', CAMERA, boxes)
    rows = np.concatenate([feeds['row'] for feeds in engine.feeds])
    np.testing.assert_array_equal(rows, [0, 2, 4])
    assert [len(feeds['image']) for feeds in engine.feeds] == [2, 1]
    assert engine.feeds[0]['image'].shape == (2, 3, 224, 224)
    for i, person in enumerate(people):
        found = rotations.axis_angle_to_matrix(person.pose)
        np.testing.assert_allclose(found, engine.rotmats[i], atol=1e-4)
        # A person of scale 0.9 is as far away as the pixels of the crop say.
        side = round(rsc_net.native_side(boxes[i].box))
        assert person.transl[2] == pytest.approx(2 * 600 / (side * 0.9), rel=1e-4)
        assert (person.joint_confidence == 1).all() and len(person.feature) == 2048


def test_bodies_that_cannot_be_placed_are_counted():
    engine = RscEngine()
    engine.scale[1] = -0.2
    recovery = RscNetRecovery(engine, point_body(), SETTINGS)
    people = recovery.recover(IMAGE, 'bgr', CAMERA, [box(50, 200), box(200, 60), box(300, 40)])
    assert len(people) == 2 and recovery.rejected_people == 1


def test_the_manifest_says_how_an_engine_is_read():
    engine = SimpleNamespace(entry=SimpleNamespace(
        name='far', network='rsc_net', image_size=224, mean=(0, 0, 0), std=(1, 1, 1),
        projection='real_camera', body_model='', body_model_sha256=''))
    assert isinstance(recovery_for(engine, point_body(), 3), RscNetRecovery)
    assert type(recovery_for(SimpleNamespace(entry=None), point_body(), 3)) is MeshRecovery


class Named:
    """Stands for a recovery: gives out a person for each box but those it is told to lose."""

    def __init__(self, name, lost=()):
        self.name, self.lost, self.calls = name, lost, []
        self.rejected_boxes, self.rejected_people = 0, len(lost)
        self.record = SimpleNamespace(crop_ms=1.0, network_ms=2.0, decode_ms=3.0, people=1,
                                      rejected_boxes=0, rejected_people=len(lost))

    def recover(self, image, color_order, camera, boxes):
        self.calls.append([one.track_id for one in boxes])
        return [SimpleNamespace(track_id=one.track_id, box=one.box, by=self.name)
                for one in boxes if one.track_id not in self.lost]


def test_each_engine_gets_one_batch_and_people_keep_their_order():
    near, far = Named('near', ['c']), Named('far')
    both = NearFarRecovery(near, far, 64.0, 10)
    boxes = [box(0, 30, 'a'), box(9, 90, 'b'), box(9, 90, 'c'), box(9, 90, 'd'), box(0, 30, 'e')]
    people = both.recover(IMAGE, 'bgr', CAMERA, boxes)
    assert [(p.track_id, p.by) for p in people] == [
        ('a', 'far'), ('b', 'near'), ('d', 'near'), ('e', 'far')]
    assert near.calls == [['b', 'c', 'd']] and far.calls == [['a', 'e']]
    assert (both.far_people, both.rejected_people) == (2, 1)
    assert (both.record.network_ms, both.record.people) == (4.0, 2)


def test_a_track_changes_its_engine_beyond_the_threshold_only():
    both = NearFarRecovery(Named('near'), Named('far'), 64.0, 10)
    heights = [80, 60, 64 * (1 - HYSTERESIS) + 0.1, 57, 63, 66, 70, 71]
    engines = [both.recover(IMAGE, 'bgr', CAMERA, [box(0, height, 'a')])[0].by
               for height in heights]
    assert engines == ['near', 'near', 'near', 'far', 'far', 'far', 'far', 'near']


def test_people_without_a_track_have_no_history():
    both = NearFarRecovery(Named('near'), Named('far'), 64.0, 10)
    for height, expected in ((80, 'near'), (62, 'far'), (65, 'near')):
        assert both.recover(IMAGE, 'bgr', CAMERA, [box(0, height)])[0].by == expected


def test_only_the_best_are_shared_out():
    near, far = Named('near'), Named('far')
    boxes = [PersonBox(np.float32([0, 0, 20, h]), score, name) for h, score, name in (
        (90, 0.1, 'a'), (30, 0.9, 'b'), (90, 0.8, 'c'))]
    people = NearFarRecovery(near, far, 64.0, 2).recover(IMAGE, 'bgr', CAMERA, boxes)
    assert [person.track_id for person in people] == ['b', 'c']


def test_ten_thousand_tracks_leave_no_trace():
    both = NearFarRecovery(Named('near'), Named('far'), 64.0, 10)
    for i in range(10_000):
        both.recover(IMAGE, 'bgr', CAMERA, [box(0, 80, f'p{i}')])
        both._near.calls.clear()
        both._far.calls.clear()
    assert len(both._was_far) <= 256
