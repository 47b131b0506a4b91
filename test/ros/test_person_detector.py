# SPDX-License-Identifier: Apache-2.0
"""The detector gives boxes to every image, also to those that come while it is at work."""

from __future__ import annotations

import threading

from builtin_interfaces.msg import Time
import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from hmr_ros.msg import PersonBoxArray
from hmr_ros.nodes.conversions import image_message
from hmr_ros.nodes.person_detector import PersonDetectorNode
from hmr_ros.nodes.qos import image_qos
from hmr_ros.perception.person import PersonBox

pytestmark = pytest.mark.ros

GREY = np.full((240, 320, 3), 90, np.uint8)


class HeldDetector:
    """Finds one person who walks 20 pixels each time; works only when it is let go on."""

    def __init__(self):
        self.searched, self.steps = 0, threading.Semaphore(0)

    def detect(self, image):
        assert self.steps.acquire(timeout=30)
        x = 20.0 * self.searched
        self.searched += 1
        return [PersonBox(np.float32([x, 60, x + 40, 180]), 0.99)]


class Camera:
    """Sends images a tenth of a second apart to a node whose detector is held."""

    def __init__(self, graph, node):
        self.graph, self.node, self.image, self.stamp_s = graph, node, GREY, 1000.0
        self.detector = node._detector

    def send(self):
        self.stamp_s += 0.1
        stamp = Time(sec=int(self.stamp_s), nanosec=round(self.stamp_s % 1 * 1e9))
        message = self.picture(Header(stamp=stamp, frame_id='camera'))
        arrived = self.node.diagnostics.counters['frames_in'] + 1
        self.graph.publish('image', message, image_qos())
        # A reader of images keeps the newest one only.
        self.graph.until(lambda: self.node.diagnostics.counters['frames_in'] == arrived, 'it')
        return message.header

    def picture(self, header):
        return image_message(self.image, header)

    def search(self):
        """Send an image and wait until it was searched."""
        header, before = self.send(), self.node.diagnostics.counters['frames_processed']
        self.detector.steps.release()
        self.graph.until(
            lambda: self.node.diagnostics.counters['frames_processed'] > before, 'the search')
        return header


class CompressedCamera(Camera):

    def picture(self, header):
        import cv2
        return CompressedImage(
            header=header, format='bgr8; jpeg compressed bgr8',
            data=cv2.imencode('.jpg', self.image)[1].tobytes())


@pytest.fixture
def detector(graph):
    """Make the node with a detector that is held until the end of the test."""
    held = HeldDetector()

    def make(parameters=None):
        node = graph.make(PersonDetectorNode, parameters)
        node._detector = held
        graph.listen(PersonBoxArray, 'person_boxes')
        graph.until(node._publisher.get_subscription_count, 'the listener')
        return node
    yield make
    held.steps.release(1000)


@pytest.mark.parametrize(('camera_class', 'transport'), [
    (Camera, 'raw'), (CompressedCamera, 'compressed')])
def test_images_that_come_during_a_search_get_predicted_boxes_at_once(
        graph, detector, camera_class, transport):
    node = detector({'image_transport': transport})
    camera = camera_class(graph, node)
    if transport == 'compressed':
        send = graph.publish
        graph.publish = lambda topic, *rest: send(f'{topic}/compressed', *rest)
    for _ in range(6):
        camera.search()
        graph.next_on('person_boxes')
    # The person was last found at 100 to 140, walking 200 pixels a second.
    for ahead in (1, 2, 3):
        header = camera.send()
        message = graph.next_on('person_boxes')
        assert message.header == header
        assert (message.image_width, message.image_height) == (320, 240)
        assert [box.track_id for box in message.boxes] == ['p1']
        x0, _, x1, _ = message.boxes[0].box
        assert (x0 + x1) / 2 == pytest.approx(120 + 20 * ahead, abs=12)
    assert camera.detector.searched == 6, 'no search was waited for'
    assert node.diagnostics.counters['frames_dropped'] == 0
    assert node.diagnostics.counters['frames_not_searched'] in (1, 2), 'one is being searched'


def test_every_image_gets_boxes_once_and_in_order(graph, detector):
    node = detector()
    camera = Camera(graph, node)
    headers = []
    for send in [camera.search] * 3 + [camera.send] * 4:
        headers.append(send())
        boxes_of(graph, headers)
        # The first one that waits for its search must not be replaced before the worker has it.
        if len(headers) == 4:
            graph.until(lambda: node._slot._item is None, 'the worker to take it')
    camera.detector.steps.release(2)
    graph.until(lambda: node.diagnostics.counters['frames_processed'] == 5, 'the last searches')
    headers.append(camera.send())
    boxes_of(graph, headers)


def boxes_of(graph, headers):
    """Wait for the boxes of the last one; a reader of boxes keeps few messages."""
    graph.until(lambda: len(graph.received['person_boxes']) >= len(headers), 'the boxes')
    assert [message.header for message in graph.received['person_boxes']] == headers


def test_dropped_images_get_none_when_that_is_asked_for(graph, detector):
    node = detector({'between_detections': 'drop'})
    camera = Camera(graph, node)
    searched = []
    for _ in range(4):
        searched.append(camera.search())
        boxes_of(graph, searched)
    searched.append(camera.send())
    graph.until(lambda: node._slot._item is None, 'the worker to take it')
    camera.send()
    last = camera.send()
    graph.until(lambda: node.diagnostics.counters['frames_dropped'] == 1, 'a dropped image')
    for header in (None, last):
        searched += [header] if header else []
        camera.detector.steps.release()
        boxes_of(graph, searched)


def test_the_mode_can_be_changed_while_it_runs(graph, detector):
    node = detector()
    camera = Camera(graph, node)
    for _ in range(4):
        camera.search()
        graph.next_on('person_boxes')
    node.set_parameters([Parameter('between_detections', value='drop')])
    camera.send()
    assert not graph.received['person_boxes']
    camera.detector.steps.release()
    graph.next_on('person_boxes')


@pytest.mark.parametrize('change', ['stamps that go back', 'another size'])
def test_what_no_forecast_fits_waits_for_its_search(graph, detector, change):
    node = detector()
    camera = Camera(graph, node)
    for _ in range(4):
        camera.search()
        graph.next_on('person_boxes')
    if change == 'another size':
        camera.image = np.full((480, 640, 3), 90, np.uint8)
    else:
        camera.stamp_s = 500.0
    header = camera.send()
    assert not graph.received['person_boxes']
    camera.detector.steps.release()
    message = graph.next_on('person_boxes')
    assert message.header == header
    assert (message.image_width, message.image_height) == camera.image.shape[1::-1]


def test_boxes_that_newer_ones_have_overtaken_are_not_published(graph, detector):
    node = detector()
    camera = Camera(graph, node)
    headers = [camera.send()]
    graph.until(lambda: node._slot._item is None, 'the worker to take it')
    camera.send()
    camera.detector.steps.release()
    boxes_of(graph, headers)
    graph.until(lambda: node.diagnostics.counters['frames_processed'] == 1, 'the first search')
    headers.append(camera.send())
    boxes_of(graph, headers)
    camera.detector.steps.release()
    graph.until(lambda: node.diagnostics.counters['frames_processed'] == 2, 'the second search')
    headers.append(camera.send())
    boxes_of(graph, headers)
