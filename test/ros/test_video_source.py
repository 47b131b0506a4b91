# SPDX-License-Identifier: Apache-2.0
"""Sources that play, that cannot be read, and that disappear."""

from __future__ import annotations

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image

from hmr_ros.nodes import video_source
from hmr_ros.nodes.pairing import nanoseconds
from hmr_ros.nodes.video_source import VideoSourceNode
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.video import SourceKind

pytestmark = pytest.mark.ros

CALIBRATION = '''
image_width: 8
image_height: 6
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}
camera_matrix: {rows: 3, cols: 3, data: [9, 0, 4, 0, 9, 3, 0, 0, 1]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [9, 0, 4, 0, 0, 9, 3, 0, 0, 0, 1, 0]}
'''


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((6, 8, 3), 10 * number, np.uint8))
    return tmp_path


def listen(graph):
    graph.listen(Image, 'image', 50)
    graph.listen(CameraInfo, 'camera_info', 50)


def play(graph, **parameters):
    """Make the node, activate it once the listeners are seen."""
    listen(graph)
    node = graph.make(VideoSourceNode, {'autostart': False, **parameters}, start=False)
    node.trigger_configure()
    graph.until(lambda: node._images.get_subscription_count()
                and node._infos.get_subscription_count(), 'the listeners')
    node.trigger_activate()
    return node


def test_a_folder_is_played_at_its_rate_with_even_stamps(graph, folder):
    node = play(graph, source=str(folder), rate_hz=20.0, frame_id='eye')
    graph.until(lambda: node.finished, 'the end')
    images, infos = graph.received['image'], graph.received['camera_info']
    dropped = node.diagnostics.counters['frames_dropped']
    graph.until(lambda: len(images) == len(infos) == 4 - dropped, 'all frames')
    assert [i.header for i in images] == [i.header for i in infos]
    assert {i.header.frame_id for i in images} == {'eye'}
    steps = np.diff([nanoseconds(i.header.stamp) for i in images]) / 5e7
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert {info.k[0] for info in infos} == {0.0}, 'no calibration was given'
    assert {(i.width, i.height) for i in infos} == {(8, 6)}


def test_a_calibration_is_published_and_a_loop_never_ends(graph, folder):
    path = folder / 'camera.yaml'
    path.write_text(CALIBRATION)
    play(graph, source=str(folder), loop=True, camera_info_file=str(path),
         rate_hz=200.0)
    info = graph.next_on('camera_info', 8)
    assert (info.k[0], info.p[5], info.distortion_model) == (9.0, 9.0, 'plumb_bob')


@pytest.mark.parametrize('name, value, words', [
    ('source', '', ['source is empty', 'camera index']),
    ('source', '/nowhere/film.mp4', ['/nowhere/film.mp4', 'does not exist']),
    ('camera_info_file', '/nowhere/camera.yaml', ['/nowhere/camera.yaml', 'camera_calibration']),
])
def test_what_cannot_be_opened_fails_configure(graph, folder, name, value, words):
    node = graph.make(VideoSourceNode, {'source': str(folder), name: value})
    assert not node.is_active
    status = graph.status_of(node, lambda s: s.level == DiagnosticStatus.ERROR)
    assert all(word in status.message for word in ['configure failed', *words]), status.message


def test_an_unreadable_video_fails_configure(graph, tmp_path):
    path = tmp_path / 'noise.avi'
    path.write_bytes(b'not a video' * 100)
    node = graph.make(VideoSourceNode, {'source': str(path)})
    status = graph.status_of(node, lambda s: s.level == DiagnosticStatus.ERROR)
    assert 'noise.avi' in status.message and 'format' in status.message


@pytest.mark.parametrize('text, word', [
    ('image_width: [', 'camera_calibration'), ('image_width: 8', 'image_height'),
    (CALIBRATION.replace('[9, 0, 4, 0, 9, 3, 0, 0, 1]', '[9]'), 'expected 9')])
def test_a_damaged_calibration_is_named(tmp_path, text, word):
    from hmr_ros.nodes.calibration import read_camera_info
    from hmr_ros.nodes.errors import NodeError
    path = tmp_path / 'camera.yaml'
    path.write_text(text)
    with pytest.raises(NodeError, match=word) as error:
        read_camera_info(str(path))
    assert str(path) in str(error.value)


class LooseCamera:
    """A camera whose plug comes out after three pictures, for two attempts to open it."""

    kind, frame_rate_hz = SourceKind.CAMERA, 100.0

    def __init__(self, *_):
        self.left, self.attempts = 3, 0

    def read(self):
        if not self.left:
            raise PerceptionError("camera '0' gives no pictures any more; check its cable")
        self.left -= 1
        return np.zeros((6, 8, 3), np.uint8), 0.0

    def reopen(self):
        self.attempts += 1
        if self.attempts < 3:
            raise PerceptionError("camera '0' cannot be opened")
        self.left = 10**9

    def close(self):
        pass


def test_a_camera_that_disappears_is_opened_again(graph, monkeypatch):
    monkeypatch.setattr(video_source, 'VideoReader', LooseCamera)
    node = play(graph, source='0', reopen_s=0.6)
    status = graph.status_of(node, lambda s: s.level == DiagnosticStatus.ERROR)
    assert "camera '0'" in status.message
    graph.until(lambda: graph.logged('check its cable', 'Trying again'), 'the log line')
    assert len(graph.logged('check its cable')) == 1
    assert node.is_active and node._reader.attempts < 3
    before = len(graph.received['image'])
    graph.until(lambda: len(graph.received['image']) > before + 5, 'pictures again')
    assert graph.logged('0 is back')
