# SPDX-License-Identifier: Apache-2.0
"""The detection bridge, live: boxes of another detector come out under the same header."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn

from hmr_ros.msg import PersonBoxArray
from hmr_ros.nodes import detection_bridge
from hmr_ros.nodes.detection_bridge import DetectionBridgeNode

pytestmark = pytest.mark.ros


def result(class_id):
    return SimpleNamespace(hypothesis=SimpleNamespace(class_id=class_id, score=0.5))


def detection(x, track_id='', class_id='person', theta=0.0):
    center = SimpleNamespace(position=SimpleNamespace(x=x, y=100.0), theta=theta)
    return SimpleNamespace(
        id=track_id, results=[result(class_id)],
        bbox=SimpleNamespace(center=center, size_x=40.0, size_y=90.0))


@pytest.fixture
def bridge(graph, monkeypatch):
    """Return how to make a running bridge whose messages the test hands over itself."""
    def make(**parameters):
        # Stand-ins have no type support; what arrives is handed to the same callback.
        monkeypatch.setattr(detection_bridge, 'detection_array_type', lambda: SimpleNamespace)
        monkeypatch.setattr(DetectionBridgeNode, 'subscribe', lambda self: None)
        node = graph.make(DetectionBridgeNode, parameters)
        graph.listen(PersonBoxArray, 'person_boxes')
        graph.until(node._publisher.get_subscription_count, 'the listener')
        return node
    return make


def answer(graph, node, *detections):
    header = graph.header()
    node._on_detections(SimpleNamespace(header=header, detections=detections))
    message = graph.next_on('person_boxes')
    assert message.header == header
    return message.boxes


def test_people_without_ids_are_tracked_through_misses(graph, bridge):
    node = bridge()
    assert [len(answer(graph, node, detection(100.0 + i))) for i in range(3)] == [0, 0, 1]
    assert [box.track_id for box in answer(graph, node)] == ['p1'], 'a miss'
    assert [box.track_id for box in answer(graph, node, detection(103.0))] == ['p1']
    node.trigger_deactivate()
    assert not graph.next_on('person_boxes').boxes


def test_ids_of_the_detector_are_kept(graph, bridge):
    node = bridge()
    boxes = answer(graph, node, detection(100.0, '7'), detection(200.0))
    assert [box.track_id for box in boxes] == ['p7', '']
    np.testing.assert_allclose(boxes[0].box, [80, 55, 120, 145])
    assert len(answer(graph, node, detection(100.0))) == 1, 'not tracked a second time'


def test_without_tracking_boxes_pass_at_once(graph, bridge):
    node = bridge(track=False, person_class_ids=['1'])
    boxes = answer(graph, node, detection(100.0, class_id='1'), detection(100.0))
    assert [(box.track_id, box.score) for box in boxes] == [('', 0.5)]
    graph.status_of(node, lambda s: any(v.key == 'other class ids' and v.value == "'person'"
                                        for v in s.values))


def test_rotated_boxes_are_skipped_with_one_warning(graph, bridge):
    node = bridge(track=False)
    for count in (1, 2, 3):
        boxes = answer(graph, node, detection(100.0, theta=0.5), detection(200.0))
        assert len(boxes) == 1 and node.diagnostics.counters['boxes_rejected'] == count
    words = ['1 person boxes', f'{graph.namespace}/detections', 'center.theta is 0.5']
    graph.status_of(node, lambda s: all(word in s.message for word in words))
    graph.until(lambda: graph.logged(*words), 'the log line')
    assert len(graph.logged(*words)) == 1


def test_without_vision_msgs_the_node_stays_up_and_says_so(graph, monkeypatch):
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, 'vision_msgs', None)
        missing.setitem(sys.modules, 'vision_msgs.msg', None)
        node = graph.make(DetectionBridgeNode)
    status = graph.status_of(node, lambda s: 'vision_msgs is not installed' in s.message)
    assert 'apt install' in status.message and not node.is_active
    monkeypatch.setattr(detection_bridge, 'detection_array_type', lambda: PersonBoxArray)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, 'and can be repaired'


def test_real_messages_arrive(graph):
    vision = pytest.importorskip(
        'vision_msgs.msg', reason='vision_msgs is not installed: it comes with ROS only')
    geometry = importlib.import_module('geometry_msgs.msg')
    node = graph.make(DetectionBridgeNode, {'track': False})
    graph.listen(PersonBoxArray, 'person_boxes')
    graph.until(node._publisher.get_subscription_count, 'the listener')
    one = vision.Detection2D(id='a1', results=[vision.ObjectHypothesisWithPose(
        hypothesis=vision.ObjectHypothesis(class_id='person', score=0.5),
        pose=geometry.PoseWithCovariance())])
    one.bbox.center.position.x, one.bbox.center.position.y = 100.0, 100.0
    one.bbox.size_x, one.bbox.size_y = 40.0, 90.0
    header = graph.header()
    graph.publish('detections', vision.Detection2DArray(header=header, detections=[one]))
    message = graph.next_on('person_boxes')
    assert message.header == header and message.boxes[0].track_id == 'a1'
    np.testing.assert_allclose(message.boxes[0].box, [80, 55, 120, 145])
