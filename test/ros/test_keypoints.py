# SPDX-License-Identifier: Apache-2.0
"""The node keypoints, live, and its keypoints on the overlay."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from pose_engine import BOXES, HALF_BIN_PX, HEIGHT, PoseEngine, RATIO, SIZE, WIDTH
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from hmr_ros.msg import Keypoints2DArray, PersonBox, PersonBoxArray
from hmr_ros.nodes.conversions import (
    bgr_pixels, image_message, keypoints_from_message, keypoints_to_message)
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.keypoints import KeypointsNode
from hmr_ros.nodes.mesh_markers import MeshMarkersNode
from hmr_ros.nodes.pipeline import make_nodes
from hmr_ros.nodes.qos import image_qos
from hmr_ros.perception.overlay import track_color
from hmr_ros.perception.person import PersonKeypoints
from hmr_ros.runtime import EngineError, TensorSpec

pytestmark = pytest.mark.ros

GREY = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)


@pytest.fixture
def start(graph, pose):
    """Return how to run the node with a probe that listens."""
    def run(parameters=None):
        node = graph.make(KeypointsNode, parameters, open_engine=lambda *_: pose)
        graph.listen(Keypoints2DArray, 'keypoints')
        graph.until(node._publisher.get_subscription_count, 'the listener')
        return node
    return run


def send(graph, boxes=BOXES, **arguments):
    return graph.send_frame(boxes=boxes, info=False, **arguments)


def check_next_frame(graph):
    graph.received['keypoints'].clear()
    header = send(graph)
    message = graph.next_on('keypoints')
    assert message.header == header and len(message.people) == 2


def check_complaint(graph, node, *words):
    status = graph.status_of(node, lambda s: all(word in s.message for word in words))
    assert status.level == DiagnosticStatus.WARN
    graph.until(lambda: graph.logged(*words), 'the log line')
    assert len(graph.logged(*words)) == 1 and node.is_active


def test_keypoints_lie_where_the_engine_saw_them(graph, start, pose):
    node = start()
    header = send(graph)
    message = graph.next_on('keypoints')
    assert message.header == header
    assert (message.image_width, message.image_height) == (WIDTH, HEIGHT)
    assert (message.engine, message.engine_sha256) == ('pose', 'a' * 64)
    assert message.joint_set == Keypoints2DArray.JOINT_SET_COCO17
    assert pose.batches == [2], 'all people of a frame are one batch'
    people = keypoints_from_message(message)
    assert [person.track_id for person in people] == ['p0', 'p1']
    peak = np.exp(12) / (np.exp(12) + RATIO * SIZE - 1)
    for person, points, box in zip(people, pose.points, BOXES):
        np.testing.assert_allclose(person.keypoints, points, atol=HALF_BIN_PX + 0.01)
        np.testing.assert_allclose(person.confidence, peak, rtol=1e-4)
        np.testing.assert_array_equal(person.box, box)
        assert person.score == pytest.approx(0.9 * peak, rel=1e-4)
    facts = node.diagnostics.facts
    assert (facts['engine'], facts['persons']) == ('pose', '2')
    latency = node.diagnostics.summary()['latency_ms']
    assert all(latency[stage]['p50'] > 0
               for stage in ('crop', 'network', 'decode', 'end_to_end'))


def test_compressed_images_are_taken_too(graph, start, pose):
    start({'image_transport': 'compressed'})
    header = graph.header()
    graph.publish('image/compressed', CompressedImage(
        header=header, format='jpeg', data=cv2.imencode('.jpg', GREY)[1].tobytes()), image_qos())
    graph.publish('person_boxes', PersonBoxArray(
        header=header, boxes=[PersonBox(track_id='p7', score=0.9, box=BOXES[0])]))
    message = graph.next_on('keypoints')
    assert message.header == header and message.people[0].track_id == 'p7'


def test_keypoints_of_low_confidence_are_nan_and_the_limit_is_dynamic(graph, start, pose):
    node = start({'min_keypoint_score': 0.5})
    # 4 against 191 zeros: a share of 0.22.
    pose.peaks[1, 9] = 4.0
    send(graph)
    first, second = keypoints_from_message(graph.next_on('keypoints'))
    assert np.isfinite(first.keypoints).all()
    np.testing.assert_array_equal(np.isnan(second.keypoints).all(axis=1), np.arange(17) == 9)
    node.set_parameters([Parameter('min_keypoint_score', value=0.1)])
    send(graph)
    assert all(np.isfinite(person.keypoints).all()
               for person in keypoints_from_message(graph.next_on('keypoints')))


@pytest.mark.parametrize('mode, own, expected', [
    ('max', 'min', 1.0), ('min', 'max', 0.22), ('auto', 'min', 0.22), ('auto', '', 1.0)])
def test_the_score_mode_says_which_peak_counts(graph, start, pose, mode, own, expected):
    pose.entry = SimpleNamespace(mean=(0, 0, 0), std=(1, 1, 1), score_mode=own)
    start({'score_mode': mode})
    pose.change = lambda outputs: {**outputs, 'simcc_y': outputs['simcc_y'] / 3}
    send(graph)
    person = graph.next_on('keypoints').people[0]
    np.testing.assert_allclose(person.confidence, expected, atol=0.01)


def test_nobody_is_a_message_too_and_so_is_goodbye(graph, start, pose):
    node = start()
    header = send(graph, boxes=[])
    message = graph.next_on('keypoints')
    assert message.header == header and not message.people and message.image_width == WIDTH
    assert not pose.batches
    header = send(graph)
    assert graph.next_on('keypoints').people
    node.trigger_deactivate()
    message = graph.next_on('keypoints')
    assert message.header == header and not message.people and message.image_width == 0
    node.trigger_cleanup()
    assert pose.closed


def test_nothing_is_computed_while_nobody_listens(graph, pose):
    node = graph.make(KeypointsNode, open_engine=lambda *_: pose)
    send(graph)
    pairing = node._pairing
    graph.until(lambda: node.diagnostics.counters['frames_in'] and not (
        pairing._first or pairing._second), 'image and boxes to meet')
    node.on_worker(lambda: None)
    assert not pose.batches


def test_the_best_boxes_win_when_there_are_too_many(graph, start, pose):
    start({'max_people': 1})
    send(graph)
    assert len(graph.next_on('keypoints').people) == 1 and pose.batches == [1]


def test_a_broken_image_is_skipped(graph, start):
    node = start()
    image = image_message(GREY, Header())
    image.encoding = 'bayer_rggb8'
    for count in (1, 2):
        send(graph, image=image, header=graph.header())
        graph.until(lambda: node.diagnostics.counters['frames_rejected'] == count, 'rejection')
    check_complaint(graph, node, 'bayer_rggb8', 'rgb8')
    assert not graph.received['keypoints']
    check_next_frame(graph)


@pytest.mark.parametrize('change, words', [
    (lambda outputs: {'simcc_x': outputs['simcc_x']}, ['simcc_y ()']),
    (lambda outputs: {name: array[:, :16] for name, array in outputs.items()}, ['16', 'COCO']),
    (lambda outputs: {name: array[:1] for name, array in outputs.items()}, ['for 2 people'])])
def test_outputs_that_do_not_fit_are_skipped(graph, start, pose, change, words):
    node = start()
    pose.change = change
    send(graph)
    check_complaint(graph, node, *words)
    assert not graph.received['keypoints']
    pose.change = lambda outputs: outputs
    check_next_frame(graph)


def test_numbers_that_are_not_finite_leave_only_that_person_out(graph, start, pose):
    def spoil(outputs):
        outputs['simcc_x'][0, 3, 5] = np.inf
        return outputs
    node = start()
    pose.change = spoil
    send(graph)
    assert [person.track_id for person in graph.next_on('keypoints').people] == ['p1']
    check_complaint(graph, node, 'not finite', 'fp32')
    assert node.diagnostics.counters['people_rejected'] == 1
    pose.change = lambda outputs: outputs
    check_next_frame(graph)


def test_a_box_that_shows_nothing_is_left_out(graph, start, pose):
    node = start()
    pose.points = pose.points[:1]
    send(graph, boxes=[(400, 60, 480, 220), BOXES[0]])
    assert [person.track_id for person in graph.next_on('keypoints').people] == ['p1']
    check_complaint(graph, node, '1 person boxes show nothing')


@pytest.mark.parametrize('name, value, words', [
    ('keypoint_engine', 5, ['string']),
    ('backend', 'cuda', ['onnxruntime']),
    ('precision', 'fp8', ['fp16']),
    ('allow_engine_build', 'no', ['bool']),
    ('image_transport', 'theora', ['raw, compressed']),
    ('threads', -1, ['0 to 256']),
    ('max_people', 0, ['1 to 1000']),
    ('paired_images', 0, ['1 to 200']),
    ('min_keypoint_score', 1.5, ['0.0 to 1.0']),
    ('min_keypoint_score', 1, ['point']),
    ('score_mode', 'mean', ['auto, max, min'])])
def test_a_wrong_value_is_refused_by_name(graph, name, value, words):
    with pytest.raises(NodeError) as error:
        graph.make(KeypointsNode, {name: value})
    assert all(word in str(error.value) for word in [name, repr(value), *words]), error.value


@pytest.fixture
def no_engines(tmp_path, monkeypatch):
    (tmp_path / 'manifest.yaml').write_text('engines: {}\n')
    monkeypatch.setenv('HMR_ENGINES_DIR', str(tmp_path))
    return tmp_path


def fail_to_configure(graph, parameters, *words, **arguments):
    node = graph.make(KeypointsNode, parameters, **arguments)
    assert not node.is_active
    status = graph.status_of(node, lambda s: s.level == DiagnosticStatus.ERROR)
    assert all(word in status.message for word in ['configure failed', *words]), status.message
    return node, status.message


def test_without_an_engine_configure_says_how_to_get_one_and_can_be_repeated(
        graph, pose, no_engines):
    node, _ = fail_to_configure(
        graph, {}, "no engine 'mgil'", 'hmr train mgil', 'hmr export mgil', 'keypoint_engine',
        'simcc_x')
    node._open_engine = lambda *_: pose
    assert node.start()


def test_a_path_without_a_file_is_named_and_nothing_is_recommended(graph, no_engines):
    path = str(no_engines / 'mine.onnx')
    _, text = fail_to_configure(graph, {'keypoint_engine': path}, path)
    assert 'hmr train' not in text


def test_engines_of_other_networks_fail_at_configure(graph, pose):
    pose.outputs = (TensorSpec('uvd', (-1, 96, 3), 'float32'),)
    node, _ = fail_to_configure(graph, {}, "'pose'", 'simcc_x', 'COCO', open_engine=lambda *_: pose)
    node.trigger_configure()
    assert pose.closed, 'what a failed configure had opened'


def test_the_engine_is_asked_for_as_the_parameters_say(graph, pose):
    asked = []

    def open_engine(name, backend, precision, threads, build):
        asked.append((name, backend, precision, threads, build.max_batch,
                      build.allow_engine_build))
        return pose
    graph.make(KeypointsNode, {
        'keypoint_engine': 'mine', 'backend': 'torch', 'precision': 'fp16', 'threads': 3,
        'max_people': 7, 'allow_engine_build': False}, open_engine=open_engine)
    assert asked == [('mine', 'torch', 'fp16', 3, 7, False)]


def test_failures_of_the_engine_are_survived(graph, start, pose):
    def fail(outputs):
        raise EngineError('one hiccup')
    node = start()
    pose.change = fail
    send(graph)
    status = graph.status_of(node, lambda s: 'EngineError: one hiccup' in s.message)
    assert status.level == DiagnosticStatus.ERROR
    pose.change = lambda outputs: outputs
    check_next_frame(graph)


def test_the_pipeline_knows_the_node(context):
    nodes = make_nodes(['keypoints'], context=context)
    try:
        assert isinstance(nodes['keypoints'], KeypointsNode)
    finally:
        nodes['keypoints'].destroy_node()


# The overlay --------------------------------------------------------------------------------

DOT = (20, 30)


def keypoints_at(header, x=DOT[0], y=DOT[1]):
    """Return a message with one keypoint of somebody, the others not found."""
    points = np.full((17, 2), np.nan)
    points[0] = x, y
    return keypoints_to_message(
        [PersonKeypoints('p9', 0.9, BOXES[1], points, np.ones(17, np.float32))], header,
        (WIDTH, HEIGHT), PoseEngine)


def has_dot(message):
    x, y = DOT
    drawn = bgr_pixels(message)[y, x].astype(int)
    return bool(np.abs(drawn - track_color('p9')).max() < 8)


@pytest.fixture
def overlay(graph, recovery):
    """Return mesh_markers behind mesh_recovery, with its images subscribed to."""
    def run(parameters=None):
        node = graph.make(MeshMarkersNode, {'max_rate_hz': 1000.0, **(parameters or {})})
        graph.listen(Image, 'overlay')
        graph.until(lambda: recovery._publisher.get_subscription_count() == 2
                    and node._overlay.get_subscription_count(), 'mesh_markers')
        graph.send_frame()
        graph.until(lambda: node.diagnostics.counters['frames_processed'], 'the first people')
        graph.until(lambda: graph.probe.count_subscribers('image') == 2, 'the images')
        graph.received['overlay'].clear()
        return node
    return run


def test_without_keypoints_the_overlay_waits_for_nothing(graph, overlay):
    node = overlay()
    for _ in range(3):
        header = graph.send_frame()
        message = graph.next_on('overlay')
        assert message.header == header and not has_dot(message)
        assert not node._companions.is_waiting


def test_keypoints_are_drawn_on_their_own_image_whoever_comes_first(graph, overlay, recovery):
    node = overlay()
    header = graph.header()
    graph.publish('keypoints', keypoints_at(header))
    graph.until(lambda: node._companions._companions, 'the keypoints')
    graph.send_frame(header=header)
    message = graph.next_on('overlay')
    assert message.header == header and has_dot(message)
    header = graph.send_frame()
    graph.until(lambda: node._companions.is_waiting, 'the people')
    assert not graph.received['overlay']
    graph.publish('keypoints', keypoints_at(header))
    message = graph.next_on('overlay')
    assert message.header == header and has_dot(message)


def test_markers_do_not_wait_for_keypoints(graph, overlay):
    node = overlay()
    graph.listen(MarkerArray, 'mesh_markers')
    graph.until(node._markers.get_subscription_count, 'the listener')
    graph.publish('keypoints', keypoints_at(graph.header()))
    graph.until(lambda: node._companions._companions, 'the keypoints')
    header = graph.send_frame()
    assert graph.next_on('mesh_markers').markers[0].header == header
    assert node._companions.is_waiting and not graph.received['overlay']
    graph.publish('keypoints', keypoints_at(header))
    assert has_dot(graph.next_on('overlay'))
    assert not graph.received['mesh_markers'], 'they were out already'


def test_markers_do_not_go_back_to_an_image_whose_overlay_had_to_wait(graph, overlay):
    node = overlay()
    graph.listen(MarkerArray, 'mesh_markers')
    graph.until(node._markers.get_subscription_count, 'the listener')
    graph.publish('keypoints', keypoints_at(graph.header()))
    graph.until(lambda: node._companions._companions, 'the keypoints')
    headers = []
    for _ in range(2):
        headers.append(graph.send_frame())
        assert graph.next_on('mesh_markers').markers[0].header == headers[-1]
    for header in headers:
        graph.publish('keypoints', keypoints_at(header))
        assert graph.next_on('overlay').header == header
    assert not graph.received['mesh_markers']


def test_the_goodbye_of_keypoints_lets_the_overlay_go_on(graph, overlay):
    node = overlay()
    graph.publish('keypoints', keypoints_at(graph.header()))
    graph.until(lambda: node._companions._companions, 'the keypoints')
    header = graph.send_frame()
    graph.until(lambda: node._companions.is_waiting, 'the people')
    graph.publish('keypoints', keypoints_to_message([], header, (0, 0), PoseEngine))
    message = graph.next_on('overlay')
    assert message.header == header and not has_dot(message)
    header = graph.send_frame()
    assert graph.next_on('overlay').header == header


def test_a_publisher_of_keypoints_that_is_gone_is_not_waited_for(graph, overlay):
    node = overlay()
    graph.publish('keypoints', keypoints_at(graph.header()))
    graph.until(lambda: node._companions._companions, 'the keypoints')
    first = graph.send_frame()
    graph.until(lambda: node._companions.is_waiting, 'the people')
    graph.probe.destroy_publisher(graph._publishers.pop('keypoints'))
    graph.until(lambda: not node.count_publishers(
        node.resolve_topic_name('keypoints')), 'the end of the publisher')
    second = graph.send_frame()
    graph.until(lambda: any(
        message.header == second for message in graph.received['overlay']), 'the overlay')
    assert graph.received['overlay'][-1].header == second != first
    assert not node._companions.is_waiting


def test_keypoints_that_cannot_be_read_are_named_and_the_meshes_shown(graph, overlay):
    node = overlay()
    header = graph.header()
    broken = keypoints_at(header)
    broken.joint_set = 9
    graph.publish('keypoints', broken)
    graph.until(lambda: node._companions._companions, 'the keypoints')
    graph.send_frame(header=header)
    message = graph.next_on('overlay')
    assert message.header == header and not has_dot(message)
    assert np.ptp(bgr_pixels(message)[60:220, 120:200]) > 50, 'the mesh'
    check_complaint(graph, node, 'joint_set', '9')


def test_keypoints_can_be_switched_off_while_it_runs(graph, overlay):
    node = overlay()
    graph.publish('keypoints', keypoints_at(graph.header()))
    graph.until(lambda: node._companions._companions, 'the keypoints')
    node.set_parameters([Parameter('keypoints', value=False)])
    header = graph.send_frame()
    message = graph.next_on('overlay')
    assert message.header == header and not has_dot(message)
    assert node._keypoints_input is None and not node._companions.is_waiting
