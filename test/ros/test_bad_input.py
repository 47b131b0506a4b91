# SPDX-License-Identifier: Apache-2.0
"""Bad input: one clear message, diagnostics show it, the node lives, the next good frame works."""

from __future__ import annotations

import array
import dataclasses
import hashlib

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from hmr_ros.msg import PersonBoxArray, SmplArray
from hmr_ros.nodes.conversions import image_message
from hmr_ros.nodes.mesh_recovery import MeshRecoveryNode
from hmr_ros.nodes.person_detector import PersonDetectorNode
from hmr_ros.nodes.qos import image_qos
from hmr_ros.runtime import load_engine
from hmr_ros.runtime.engine import EngineError

pytestmark = pytest.mark.ros

WIDTH, HEIGHT = 320, 240
GREY = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)


def broken(**changes):
    image = image_message(GREY, Header())
    for name, value in changes.items():
        setattr(image, name, value)
    return image


BROKEN_IMAGES = {
    'unknown encoding': (broken(encoding='bayer_rggb8'), ['bayer_rggb8', 'rgb8', 'convert']),
    'data shorter than the header says': (
        broken(data=array.array('B', bytes(1000))), ['1000 bytes', 'publisher']),
    'step shorter than a row': (broken(step=100), ['step 100', 'at least 960']),
    'zero-size image': (broken(width=0, height=0), ['0 x 0', 'driver']),
}


def check_complaint(graph, node, words, level=DiagnosticStatus.WARN):
    """The cause and the remedy are in the diagnostics and in exactly one log line."""
    status = graph.status_of(node, lambda s: all(word in s.message for word in words))
    assert status.level == level
    graph.until(lambda: graph.logged(*words), 'the log line')
    assert len(graph.logged(*words)) == 1


def check_next_frame(graph):
    graph.received['smpl'].clear()
    header = graph.send_frame()
    message = graph.next_on('smpl')
    assert message.header == header and len(message.people) == 1


@pytest.mark.parametrize('case', BROKEN_IMAGES)
def test_a_broken_image_is_skipped_by_mesh_recovery(graph, recovery, case):
    image, words = BROKEN_IMAGES[case]
    for count in (1, 2, 3):
        graph.send_frame(image, header=graph.header())
        graph.until(lambda: recovery.diagnostics.counters['frames_rejected'] == count, 'rejection')
    check_complaint(graph, recovery, words)
    assert recovery.is_active
    check_next_frame(graph)


@pytest.mark.parametrize('case', BROKEN_IMAGES)
def test_a_broken_image_is_skipped_by_the_detector(graph, case):
    image, words = BROKEN_IMAGES[case]
    node = graph.make(PersonDetectorNode)
    graph.listen(PersonBoxArray, 'person_boxes')
    graph.until(node._publisher.get_subscription_count, 'the listener')
    graph.publish('image', image, image_qos())
    check_complaint(graph, node, words)
    graph.publish('image', broken(header=graph.header()), image_qos())
    graph.next_on('person_boxes')


def test_padded_rows_change_nothing(graph, recovery, engine):
    padded = np.zeros((HEIGHT, WIDTH * 3 + 64), np.uint8)
    padded[:, :WIDTH * 3] = GREY.reshape(HEIGHT, -1)
    image = broken(step=WIDTH * 3 + 64, data=array.array('B', padded.tobytes()))
    header = graph.send_frame(image, header=graph.header())
    message = graph.next_on('smpl')
    assert message.header == header and len(message.people) == 1


def test_a_camera_matrix_of_nan_is_replaced_by_the_assumption(graph, recovery):
    graph.send_frame(info=CameraInfo(width=WIDTH, height=HEIGHT, k=[float('nan')] * 9))
    assert graph.next_on('smpl').camera_source == SmplArray.CAMERA_ASSUMED
    check_complaint(graph, recovery, ['camera_info', 'fx=nan', 'fallback_fov_deg'])
    check_next_frame(graph)


def test_without_camera_info_the_camera_is_assumed_and_marked(graph, recovery):
    graph.send_frame(info=False)
    message = graph.next_on('smpl')
    assert message.camera_source == SmplArray.CAMERA_ASSUMED and message.people
    check_complaint(graph, recovery, ['no camera_info on', '/camera_info', 'fallback_fov_deg'])
    check_next_frame(graph)


def test_without_camera_info_and_assumption_frames_are_skipped(graph, engine):
    node = graph.make(MeshRecoveryNode, {'fallback_fov_deg': 0.0}, open_engine=lambda *_: engine)
    graph.listen(SmplArray, 'smpl')
    graph.until(node._publisher.get_subscription_count, 'the listener')
    graph.send_frame(info=False)
    check_complaint(graph, node, ['no camera_info', 'set fallback_fov_deg'])
    assert not graph.received['smpl']
    check_next_frame(graph)


@pytest.mark.parametrize('box', [
    (400, 60, 480, 220), (-200, -300, -100, -90), (50, 50, 50, 50),
    (float('nan'), 0, 100, 100)])
def test_a_box_that_shows_nothing_is_left_out(graph, recovery, box):
    graph.send_frame(boxes=[box, (120, 60, 200, 220)])
    assert [p.track_id for p in graph.next_on('smpl').people] == ['p1']
    check_complaint(graph, recovery, ['1 person boxes show nothing', 'same image'])
    assert recovery.diagnostics.counters['boxes_rejected'] == 1
    check_next_frame(graph)


def test_numbers_that_are_not_finite_leave_only_that_person_out(graph, recovery, engine):
    good = engine.outputs['uvd']
    engine.outputs['uvd'] = np.full_like(good, np.nan)
    graph.send_frame()
    assert not graph.next_on('smpl').people
    check_complaint(graph, recovery, ['not finite', 'fp32'])
    engine.outputs['uvd'] = good
    check_next_frame(graph)


def test_stamps_that_go_back_start_afresh(graph, recovery):
    graph.send_frame()
    graph.next_on('smpl')
    header = graph.send_frame(header=Header(frame_id='camera'))
    assert graph.next_on('smpl').header == header
    check_complaint(graph, recovery, ['stamps went back', 'forgotten'])
    check_next_frame(graph)


def test_boxes_without_their_image_are_counted_and_named(graph, recovery):
    graph.send_frame()
    graph.next_on('smpl')
    counters = recovery.diagnostics.counters
    for count in range(2, 30):
        graph.publish('person_boxes', PersonBoxArray(header=graph.header()))
        graph.until(lambda: counters['frames_in'] == count, 'the boxes')
    assert counters['boxes_without_image'] == 18, 'ten may still wait'
    status = graph.status_of(recovery, lambda s: 'without their image' in s.message)
    assert 'paired_images' in status.message and status.level == DiagnosticStatus.WARN
    check_next_frame(graph)


def test_silence_is_an_error_that_names_the_topic(graph, engine):
    node = graph.make(MeshRecoveryNode, {'input_timeout_s': 0.1}, open_engine=lambda *_: engine)
    status = graph.status_of(node, lambda s: s.level == DiagnosticStatus.ERROR)
    assert f'nothing on {graph.namespace}/person_boxes' in status.message
    assert 'remapped' in status.message


def write_network(folder, sha256=None):
    """Write a tiny network with its manifest; a wrong `sha256` may be given."""
    onnx = pytest.importorskip('onnx', reason='writing a network needs the onnx package')
    from hmr_ros.runtime.manifest import add_entry, ManifestEntry
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node('Identity', ['image'], ['uvd'])], 'tiny',
        [value('image', 1, ['N', 3, 8, 8])], [value('uvd', 1, ['N', 3, 8, 8])])
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=8)
    path = folder / 'tiny.onnx'
    onnx.save(model, str(path))
    entry = ManifestEntry(
        name='tiny', network='keypoint_guided', file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(), opset=17,
        inputs={'image': (-1, 3, 8, 8)}, outputs={'uvd': (-1, 3, 8, 8)}, image_size=8,
        mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), licence='Apache-2.0')
    add_entry(folder, dataclasses.replace(entry, sha256=sha256 or entry.sha256))
    return path


def configure_fails(graph, path, words):
    node = graph.make(MeshRecoveryNode, {'engine': str(path)})
    assert not node.is_active
    status = graph.status_of(node, lambda s: s.level == DiagnosticStatus.ERROR)
    assert all(word in status.message for word in ['configure failed', *words]), status.message
    graph.until(lambda: graph.logged('configure failed', *words), 'the log line')
    assert len(graph.logged('configure failed')) == 1
    return node


def test_a_missing_engine_file_fails_configure_until_it_is_there(graph, engine, tmp_path):
    node = configure_fails(graph, tmp_path / 'none.onnx', ['none.onnx'])
    node._open_engine = lambda *_: engine
    assert node.start()
    graph.listen(SmplArray, 'smpl')
    graph.until(node._publisher.get_subscription_count, 'the listener')
    check_next_frame(graph)


def test_an_engine_with_a_wrong_hash_is_never_loaded(graph, tmp_path):
    path = write_network(tmp_path, sha256='0' * 64)
    configure_fails(graph, path, ['tiny.onnx', '000000'])


def test_the_right_hash_is_loaded(tmp_path):
    assert load_engine(str(write_network(tmp_path))).name == 'tiny'


def test_failures_in_a_row_deactivate_and_activate_repairs(graph, engine):
    node = graph.make(MeshRecoveryNode, {'max_failures': 3}, open_engine=lambda *_: engine)
    graph.listen(SmplArray, 'smpl')
    graph.until(node._publisher.get_subscription_count, 'the listener')
    engine.error = EngineError('the graphics card fell off')
    for count in (1, 2, 3):
        graph.send_frame()
        graph.until(lambda: node.diagnostics.counters['failures'] == count, 'the failure')
    graph.until(lambda: not node.is_active, 'deactivation')
    assert not graph.next_on('smpl').people, 'goodbye'
    status = graph.status_of(node, lambda s: 'deactivated after 3' in s.message)
    assert status.level == DiagnosticStatus.ERROR and 'fell off' in status.message
    engine.error = None
    node.trigger_activate()
    check_next_frame(graph)


def test_one_failure_is_survived(graph, recovery, engine):
    engine.error = EngineError('one hiccup')
    graph.send_frame()
    check_complaint(graph, recovery, ['EngineError: one hiccup'], DiagnosticStatus.ERROR)
    engine.error = None
    check_next_frame(graph)
