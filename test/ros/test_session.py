# SPDX-License-Identifier: Apache-2.0
"""A session from a short clip to its files: nothing is lost without being counted."""

from __future__ import annotations

from collections import defaultdict
import functools

import cv2
import pytest
import rclpy

from hmr_ros.demo import synthetic
from hmr_ros.demo.errors import DemoError
from hmr_ros.demo.report import session_report
from hmr_ros.demo.session import SessionWriter
from hmr_ros.nodes import pipeline
from hmr_ros.nodes.mesh_recovery import MeshRecoveryNode
from hmr_ros.nodes.pairing import nanoseconds
from hmr_ros.nodes.session import run_session, SessionOptions

pytestmark = pytest.mark.ros

FRAMES = 25
TYPES = {
    '/image/compressed': 'sensor_msgs/msg/CompressedImage',
    '/overlay/compressed': 'sensor_msgs/msg/CompressedImage',
    '/camera_info': 'sensor_msgs/msg/CameraInfo',
    '/person_boxes': 'hmr_ros/msg/PersonBoxArray',
    '/smpl': 'hmr_ros/msg/SmplArray',
    '/smpl_smoothed': 'hmr_ros/msg/SmplArray',
    '/mesh_markers': 'visualization_msgs/msg/MarkerArray',
    '/diagnostics': 'diagnostic_msgs/msg/DiagnosticArray'}
# Large people only and named at once: quick, and somebody is there from the beginning.
QUICK = {'detector.min_person': 0.25, 'detector.scan_frames': 1, 'tracking.min_hits': 1,
         'tracking.birth_score': 0.0}


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, 'SECONDS', FRAMES / synthetic.RATE_HZ)
    synthetic.write_walk(tmp_path / 'walk.avi')
    return tmp_path / 'walk.avi'


@pytest.fixture
def run(clip, tmp_path, engine, monkeypatch):
    """Return how to run a session with a fake engine; its files are in `tmp_path`."""
    monkeypatch.setitem(pipeline.NODES, 'mesh_recovery', functools.partial(
        MeshRecoveryNode, open_engine=lambda *_: engine))

    def run_for(duration_s):
        return run_session(
            SessionOptions(str(clip), duration_s, tmp_path, {'person_detector': QUICK}))
    return run_for


def read_recording(path):
    """Return schemas by name and decoded messages by topic, read by others' code."""
    decoder = pytest.importorskip('mcap_ros2.decoder', reason='needs mcap-ros2-support')
    from mcap.reader import make_reader
    schemas, messages = {}, defaultdict(list)
    with path.open('rb') as stream:
        reader = make_reader(stream, decoder_factories=[decoder.DecoderFactory()])
        for schema, channel, _, decoded in reader.iter_decoded_messages():
            schemas[channel.topic] = schema
            messages[channel.topic].append(decoded)
    return schemas, messages


def test_every_frame_is_accounted_for_and_recorded(run, tmp_path):
    session = run(60.0)
    report = session_report(session, 'walk')
    assert report['frames_in'] == FRAMES, 'published or late, and nothing else'
    assert report['frames_in'] == report['frames_processed'] + report['frames_dropped']
    assert report['frames_processed'] > 2 and report['frames_dropped'] >= 0
    assert report['people_mean'] > 0 and report['tracks'] > 0 and report['fps'] > 0
    assert report['engine']['name'] == 'fake' and not report['recording_errors']
    assert {'detection', 'network', 'smoothing', 'end_to_end'} <= set(report['latency_ms'])

    video = cv2.VideoCapture(str(tmp_path / 'overlay.mp4'))
    opened, frame = video.read()
    assert opened and frame.shape == (synthetic.HEIGHT, synthetic.WIDTH, 3)

    schemas, messages = read_recording(tmp_path / 'session.mcap')
    assert {topic: schema.name for topic, schema in schemas.items()} == TYPES
    assert {schema.encoding for schema in schemas.values()} == {'ros2msg'}
    text = schemas['/smpl'].data.decode()
    assert 'MSG: hmr_ros/SmplPerson' in text and 'metres' in text, 'readable years later'
    people, raw = ({nanoseconds(m.header.stamp): len(m.people) for m in messages[topic]
                    if m.image_width} for topic in ('/smpl_smoothed', '/smpl'))
    assert people == session.counts.people and set(people) <= set(raw)
    boxes = {nanoseconds(m.header.stamp) for m in messages['/person_boxes']}
    assert set(people) <= boxes
    picture = messages['/image/compressed'][0]
    assert picture.format == 'jpeg' and bytes(picture.data[:2]) == b'\xff\xd8'


def test_a_full_disk_ends_the_recording_and_nothing_else(run, monkeypatch):
    def fail(*_):
        raise OSError('No space left on device')

    monkeypatch.setattr(SessionWriter, 'write', fail)
    monkeypatch.setattr(SessionWriter, 'close', fail)
    session = run(1.5)
    assert session.counts.errors == ['No space left on device']
    assert session.counts.people and session.counts.meshes
    assert not rclpy.ok()


def test_a_node_that_cannot_start_is_named_and_everything_is_put_away(clip, tmp_path):
    options = SessionOptions(
        str(clip), 5.0, tmp_path, {'mesh_recovery': {'engine': 'no_such_engine'}})
    with pytest.raises(DemoError, match='mesh_recovery: .*no_such_engine'):
        run_session(options)
    assert not rclpy.ok()
    schemas, _ = read_recording(tmp_path / 'session.mcap')
    assert set(schemas) <= {'/diagnostics'}, 'a whole file, with nothing from a pipeline'
