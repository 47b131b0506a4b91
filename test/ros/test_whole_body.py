# SPDX-License-Identifier: Apache-2.0
"""People with hands and faces, live: from the engine to the screen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from hmr_ros.body import load_body, load_whole_body
from hmr_ros.msg import SmplArray, SmplPerson
from hmr_ros.nodes.conversions import bgr_pixels, camera_to_message, person_from_message
from hmr_ros.nodes.mesh_markers import MeshMarkersNode
from hmr_ros.nodes.mesh_recovery import MeshRecoveryNode
from hmr_ros.nodes.temporal_smoother import TemporalSmootherNode
from hmr_ros.perception.camera import Camera

pytestmark = pytest.mark.ros

#: six numbers of no turn, and of half a turn about x, from the body's axes to the optical frame.
STILL, UPRIGHT = (1, 0, 0, 1, 0, 0), (1, 0, 0, -1, 0, 0)


class WholeBodyEngine:
    """Gives for each crop the same person, who stands upright and bends the left fingers."""

    name, backend, precision, sha256 = 'whole', 'onnxruntime', 'fp32', 'b' * 64
    reason = 'it is a stand-in'
    entry = SimpleNamespace(
        network='bidrn', name='whole', image_size=256, mean=(0, 0, 0), std=(1, 1, 1),
        projection='real_camera', body_model='open_whole_body', body_model_sha256='')

    def __init__(self):
        self.closed, self.shapes, self.angle = False, [], 1.0

    def run(self, feeds):
        count = len(feeds['image'])
        self.shapes.append(feeds['image'].shape)
        bent = (np.cos(self.angle), -np.sin(self.angle), np.sin(self.angle), np.cos(self.angle),
                0, 0)
        rows = {'root': UPRIGHT, 'body_pose': STILL * 21, 'left_hand': bent * 15,
                'right_hand': STILL * 15, 'jaw': STILL, 'shape': np.zeros(10),
                'expression': np.full(10, 0.5), 'transl': (0, 0.2, 44.0)}
        return {name: np.tile(np.float32(row), (count, 1)) for name, row in rows.items()}

    def close(self):
        self.closed = True


@pytest.fixture
def whole():
    return WholeBodyEngine()


@pytest.fixture
def recovery(graph, whole):
    """Return a running mesh_recovery with an engine of whole bodies, and listen to its people."""
    node = graph.make(MeshRecoveryNode, open_engine=lambda *_: whole)
    graph.listen(SmplArray, 'smpl')
    graph.until(lambda: node._publisher.get_subscription_count(), 'the probe to be seen')
    return node


def test_people_come_with_hands_and_faces(graph, recovery, whole):
    graph.send_frame(boxes=[(120, 60, 200, 220), (10, 60, 90, 220)])
    message = graph.next_on('smpl')
    assert whole.shapes == [(2, 3, 256, 192)], 'all people of a frame are one batch'
    assert message.layout == SmplArray.LAYOUT_SMPLX
    assert (message.body_model, message.body_model_sha256) == (
        'open_whole_body', load_whole_body().sha256)
    found = person_from_message(message.people[0]).hands_and_face
    left, right = found.hand_pose
    mean = load_whole_body().hands_mean
    np.testing.assert_allclose(right, mean[1], atol=1e-5)
    np.testing.assert_allclose(left - mean[0], np.tile([0, 0, 1.0], (15, 1)), atol=1e-5)
    np.testing.assert_array_equal(found.expression, np.full(10, 0.5, np.float32))
    assert np.isfinite(found.hand_joints3d).all() and np.ptp(found.hand_joints2d) > 5


def test_markers_and_overlay_show_the_fingers(graph, recovery):
    node = graph.make(MeshMarkersNode)
    graph.until(lambda: recovery._publisher.get_subscription_count() == 2, 'mesh_markers')
    graph.listen(MarkerArray, 'mesh_markers')
    graph.listen(Image, 'overlay')
    graph.until(lambda: node._markers.get_subscription_count()
                and node._overlay.get_subscription_count(), 'both listeners')
    graph.send_frame()
    mesh, skeleton, _ = graph.next_on('mesh_markers').markers
    assert len(mesh.points) == 3 * len(load_whole_body().faces)
    assert len(skeleton.points) == 2 * (21 + 2 * (15 + 5))
    graph.until(lambda: graph.probe.count_subscribers('image') == 2, 'the image subscription')
    graph.send_frame()
    overlay = graph.next_on('overlay')
    assert np.ptp(bgr_pixels(overlay)[60:220, 120:200]) > 50, 'somebody is drawn on the grey'


def test_the_screen_is_cleared_when_bodies_of_another_kind_come(graph, recovery):
    node = graph.make(MeshMarkersNode)
    graph.until(lambda: recovery._publisher.get_subscription_count() == 2, 'mesh_markers')
    graph.listen(MarkerArray, 'mesh_markers')
    graph.until(node._markers.get_subscription_count, 'the listener')
    graph.send_frame()
    assert len(graph.next_on('mesh_markers').markers) == 3
    body = load_body()
    graph.publish('smpl', SmplArray(
        header=graph.header(), body_model=body.name, body_model_sha256=body.sha256))
    assert [m.action for m in graph.next_on('mesh_markers').markers] == [Marker.DELETE] * 3
    assert node.diagnostics.facts['body_model'] == 'open_body'


def test_the_smoother_steadies_their_fingers_too(graph, recovery, whole):
    smoother = graph.make(TemporalSmootherNode)
    graph.listen(SmplArray, 'smpl_smoothed')
    graph.until(lambda: smoother._publisher.get_subscription_count(), 'the probe to be seen')
    graph.until(lambda: recovery._publisher.get_subscription_count() == 2, 'the smoother')
    found, smooth = [], []
    header = graph.header()
    for angle in (0.0, 0.8):
        whole.angle = angle
        header.stamp.nanosec = int(angle * 1e8)
        graph.send_frame(header=header)
        for people, topic in ((found, 'smpl'), (smooth, 'smpl_smoothed')):
            message = graph.next_on(topic)
            assert message.layout == SmplArray.LAYOUT_SMPLX
            people.append(person_from_message(message.people[0]).hands_and_face)
    np.testing.assert_allclose(smooth[0].hand_pose, found[0].hand_pose, atol=1e-5)
    moved, steadied = (np.abs(np.diff([one.hand_pose[0] for one in people], axis=0)).max()
                       for people in (found, smooth))
    assert 0.05 * moved < steadied < 0.95 * moved
    assert smoother.diagnostics.facts['method'] == 'one_euro'


@pytest.mark.parametrize(('parameters', 'words'), [
    ({'refine': 'keypoints'}, 'set refine to none'),
    ({'whole_body_model': '/no/such/file.npz'}, '/no/such/file.npz')])
def test_what_whole_bodies_cannot_have_is_refused_at_configure(graph, whole, parameters, words):
    node = graph.make(MeshRecoveryNode, parameters, start=False, open_engine=lambda *_: whole)
    node.trigger_configure()
    assert words in node.diagnostics.blocked


@pytest.mark.parametrize('node_class', [MeshMarkersNode, TemporalSmootherNode])
def test_a_whole_body_file_that_is_not_there_is_refused_before_anybody_comes(graph, node_class):
    node = graph.make(node_class, {'whole_body_model': '/no/such/file.npz'}, start=False)
    node.trigger_configure()
    assert '/no/such/file.npz' in node.diagnostics.blocked


def handless(header):
    """Return a message of whole bodies whose only person has no hands."""
    body = load_whole_body()
    message = SmplArray(
        header=header, layout=SmplArray.LAYOUT_SMPLX, body_model=body.name,
        body_model_sha256=body.sha256, people=[SmplPerson(track_id='p1')])
    camera_to_message(Camera(300.0, 300.0, 160.0, 120.0, 320, 240), message)
    return message


def test_whole_bodies_without_hands_are_refused_by_name_and_the_screen_lives(graph):
    node = graph.make(MeshMarkersNode)
    graph.listen(MarkerArray, 'mesh_markers')
    graph.until(node._markers.get_subscription_count, 'the listener')
    graph.publish('smpl', handless(graph.header()))
    graph.status_of(node, lambda status: "'p1'" in status.message and 'layout' in status.message)
    assert node.diagnostics.counters['failures'] == 0


def test_people_that_cannot_be_read_are_answered_as_they_came(graph):
    node = graph.make(TemporalSmootherNode)
    graph.listen(SmplArray, 'smpl_smoothed')
    graph.until(node._publisher.get_subscription_count, 'the probe to be seen')
    message = handless(graph.header())
    message.people[0].jaw_pose = [0.0, 0.0]
    graph.publish('smpl', message)
    assert list(graph.next_on('smpl_smoothed').people[0].jaw_pose) == [0, 0]
    assert node.diagnostics.facts['method'] == 'none'


def test_the_smoothers_last_word_has_the_layout_of_its_people(graph, recovery):
    smoother = graph.make(TemporalSmootherNode)
    graph.listen(SmplArray, 'smpl_smoothed')
    graph.until(smoother._publisher.get_subscription_count, 'the probe to be seen')
    graph.until(lambda: recovery._publisher.get_subscription_count() == 2, 'the smoother')
    graph.send_frame()
    found = graph.next_on('smpl_smoothed')
    smoother.trigger_deactivate()
    last = graph.next_on('smpl_smoothed')
    assert not last.people and (last.layout, last.body_model_sha256) == (
        found.layout, found.body_model_sha256)


def test_people_with_and_without_hands_are_not_mixed(graph, whole, engine):
    node = graph.make(MeshRecoveryNode, {'engine.near': 'whole', 'engine.far': 'fake'},
                      start=False, open_engine=lambda name, *_: whole if name == 'whole' else engine)
    node.trigger_configure()
    assert 'engine.near and engine.far' in node.diagnostics.blocked
