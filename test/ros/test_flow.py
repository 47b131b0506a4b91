# SPDX-License-Identifier: Apache-2.0
"""The nodes, live: what goes in comes out with the same stamp, empty frames and goodbyes too."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from hmr_ros.msg import PersonBoxArray, SmplArray
from hmr_ros.nodes.conversions import bgr_pixels, image_message, person_from_message
from hmr_ros.nodes.mesh_markers import MeshMarkersNode
from hmr_ros.nodes.mesh_recovery import MeshRecoveryNode
from hmr_ros.nodes.person_detector import PersonDetectorNode
from hmr_ros.nodes.qos import image_qos

pytestmark = pytest.mark.ros


def test_people_carry_the_image_header_and_stand_where_the_box_is(graph, recovery, engine):
    header = graph.send_frame(boxes=[(120, 60, 200, 220), (10, 60, 90, 220)])
    message = graph.next_on('smpl')
    assert message.header == header
    assert (message.engine, message.engine_sha256) == ('fake', 'f' * 64)
    assert message.body_model == 'open_body' and len(message.body_model_sha256) == 64
    assert message.camera_source == SmplArray.CAMERA_CALIBRATED
    assert list(message.camera) == [300, 300, 160, 120]
    assert engine.batches == [2], 'all people of a frame are one batch'
    assert [p.track_id for p in message.people] == ['p0', 'p1']
    person = person_from_message(message.people[0])
    np.testing.assert_allclose(person.joints3d[0], [0, 0, 3.5], atol=0.05)
    np.testing.assert_allclose(person.joints2d[0], [160, 120], atol=3)


def test_nobody_is_a_message_too_and_so_is_goodbye(graph, recovery):
    header = graph.send_frame(boxes=[])
    message = graph.next_on('smpl')
    assert message.header == header and not message.people
    graph.send_frame()
    assert graph.next_on('smpl').people
    recovery.trigger_deactivate()
    assert not graph.next_on('smpl').people


def test_nothing_is_computed_while_nobody_listens(graph, engine):
    node = graph.make(MeshRecoveryNode, open_engine=lambda *_: engine)
    graph.send_frame()
    graph.until(lambda: node.diagnostics.counters['frames_in'], 'the boxes')
    node.trigger_deactivate()
    assert not engine.batches


@pytest.mark.parametrize(('parameter', 'cores', 'threads'), [
    (0, 1, 1), (0, 2, 1), (0, 4, 2), (0, 8, 4), (0, 64, 4), (3, 2, 3)])
def test_half_of_the_cores_are_for_the_engine_unless_it_is_said(
        graph, engine, monkeypatch, parameter, cores, threads):
    monkeypatch.setattr('os.sched_getaffinity', lambda process: set(range(cores)))
    asked = []

    def open_engine(name, backend, precision, threads, build):
        asked.append(threads)
        return engine
    graph.make(MeshRecoveryNode, {'threads': parameter}, open_engine=open_engine)
    assert asked == [threads]


def test_small_people_go_to_the_engine_for_them(graph, engine):
    engines = {'large': engine, 'small': type(engine)()}
    for name, one in engines.items():
        one.name, one.sha256 = name, name[0] * 64
    node = graph.make(
        MeshRecoveryNode, open_engine=lambda name, *_: engines[name],
        parameters={'engine.near': 'large', 'engine.far': 'small', 'engine.far_below_px': 100.0})
    graph.listen(SmplArray, 'smpl')
    graph.until(lambda: node._publisher.get_subscription_count(), 'the probe to be seen')
    graph.send_frame(boxes=[(120, 60, 200, 220), (10, 60, 30, 120), (40, 60, 60, 120)])
    message = graph.next_on('smpl')
    assert [p.track_id for p in message.people] == ['p0', 'p1', 'p2']
    assert engines['large'].batches == [1] and engines['small'].batches == [2]
    assert message.engine == 'large,small'
    assert message.engine_sha256 == 'l' * 64 + ',' + 's' * 64
    assert node.diagnostics.facts['far_persons'] == '2'
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert all(one.closed for one in engines.values())


def test_a_configure_that_failed_leaves_no_engine_behind(graph, engine):
    opened = [engine, RuntimeError('the second one is missing'), type(engine)(), type(engine)()]

    def open_engine(*_):
        found = opened.pop(0)
        if isinstance(found, Exception):
            raise found
        return found
    node = graph.make(MeshRecoveryNode, parameters={'engine.far': 'other'}, start=False,
                      open_engine=open_engine)
    node.trigger_configure()
    assert 'second one is missing' in node.diagnostics.blocked
    node.trigger_configure()
    assert engine.closed and not opened and node.diagnostics.facts['engine'] == 'fake,fake'


@pytest.fixture
def markers(graph, recovery):
    node = graph.make(MeshMarkersNode, {'max_rate_hz': 1000.0})
    graph.until(lambda: recovery._publisher.get_subscription_count() == 2, 'mesh_markers')
    return node


def test_markers_and_overlay_follow_the_people(graph, markers):
    graph.listen(MarkerArray, 'mesh_markers')
    graph.listen(Image, 'overlay')
    graph.until(lambda: markers._markers.get_subscription_count()
                and markers._overlay.get_subscription_count(), 'both listeners')
    # The first people make the node subscribe to images.
    graph.send_frame()
    graph.next_on('mesh_markers')
    graph.until(lambda: graph.probe.count_subscribers('image') == 2, 'the image subscription')
    header = graph.send_frame()
    mesh, skeleton, label = graph.next_on('mesh_markers').markers
    assert mesh.header == skeleton.header == label.header == header
    assert (mesh.type, skeleton.type) == (Marker.TRIANGLE_LIST, Marker.LINE_LIST)
    assert label.text == 'p0' and len(skeleton.points) == 46
    heights = [point.y for point in mesh.points]
    assert 1.3 < max(heights) - min(heights) < 2.2, 'a grown person, in metres'
    overlay = graph.next_on('overlay')
    assert overlay.header == header
    assert np.ptp(bgr_pixels(overlay)[60:220, 120:200]) > 50, 'somebody is drawn on the grey'

    graph.send_frame(boxes=[])
    assert {m.action for m in graph.next_on('mesh_markers').markers} == {Marker.DELETE}
    assert np.ptp(bgr_pixels(graph.next_on('overlay'))) == 0
    graph.send_frame()
    graph.next_on('mesh_markers')
    markers.trigger_deactivate()
    assert {m.action for m in graph.next_on('mesh_markers').markers} == {Marker.DELETE}


def test_the_mesh_rate_has_a_limit(graph, markers):
    graph.listen(MarkerArray, 'mesh_markers')
    graph.until(markers._markers.get_subscription_count, 'the listener')
    graph.send_frame()
    graph.next_on('mesh_markers')
    markers.set_parameters([graph_parameter('max_rate_hz', 0.1)])
    graph.send_frame()
    before = markers.diagnostics.counters['frames_processed']
    graph.until(lambda: markers.diagnostics.counters['frames_processed'] > before, 'the people')
    assert not graph.received['mesh_markers']


def graph_parameter(name, value):
    from rclpy.parameter import Parameter
    return Parameter(name, value=value)


def test_people_of_another_body_are_refused(graph, markers):
    graph.listen(MarkerArray, 'mesh_markers')
    graph.until(markers._markers.get_subscription_count, 'the listener')
    message = SmplArray(header=graph.header(), body_model='other', body_model_sha256='a' * 64)
    graph.publish('smpl', message)
    status = graph.status_of(markers, lambda s: 'other' in s.message)
    assert 'set body_model alike' in status.message
    graph.send_frame()
    assert graph.next_on('mesh_markers').markers


def test_the_detector_publishes_every_frame(graph):
    node = graph.make(PersonDetectorNode)
    graph.listen(PersonBoxArray, 'person_boxes')
    graph.until(node._publisher.get_subscription_count, 'the listener')
    image = image_message(np.zeros((240, 320, 3), np.uint8), graph.header())
    graph.publish('image', image, image_qos())
    message = graph.next_on('person_boxes')
    assert message.header == image.header and not message.boxes
    assert (message.image_width, message.image_height) == (320, 240)
    node.trigger_deactivate()
    assert not graph.next_on('person_boxes').boxes
