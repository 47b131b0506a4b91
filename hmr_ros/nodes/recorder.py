# SPDX-License-Identifier: Apache-2.0
"""Node `recorder`: takes what the pipeline publishes and writes the demo's recording and video."""

from __future__ import annotations

import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
import functools
import struct
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from visualization_msgs.msg import MarkerArray

from hmr_ros.demo.pictures import VideoFile
from hmr_ros.demo.session import SessionWriter
from hmr_ros.msg import Keypoints2DArray, PersonBoxArray, SmplArray
from hmr_ros.nodes.conversions import bgr_pixels
from hmr_ros.nodes.pairing import nanoseconds

_TYPES = {
    'image': Image, 'camera_info': CameraInfo, 'person_boxes': PersonBoxArray, 'smpl': SmplArray,
    'smpl_smoothed': SmplArray, 'keypoints': Keypoints2DArray, 'mesh_markers': MarkerArray,
    'overlay': Image, '/diagnostics': DiagnosticArray}
_PICTURES = ('image', 'overlay')
_JPEG_QUALITY = 88
# A mesh message holds 1 MB a person; one a second shows everything and keeps the file small.
_MESH_PERIOD_NS = 1_000_000_000
_MOST_WAITING = 24


@dataclass
class SessionCounts:
    """
    What was seen on the topics.

    people         number of people for each processed image, by its stamp in nanoseconds
    tracks         all ids
    meshes         mesh messages received
    skipped        pictures left out of the recording because writing was too slow
    errors         first words of what went wrong while writing
    """

    people: dict[int, int] = field(default_factory=dict)
    tracks: set[str] = field(default_factory=set)
    meshes: int = 0
    skipped: int = 0
    errors: list[str] = field(default_factory=list)


def _type_name(message_type: type) -> str:
    return f'{message_type.__module__.split(".")[0]}/msg/{message_type.__name__}'


class RecorderNode(Node):
    """
    Subscribes to every topic of the pipeline without decoding what need not be decoded.

    Pictures are recorded as JPEG on `image/compressed` and `overlay/compressed`, meshes once a
    second; everything else as it is. Without a writer it only counts.
    """

    def __init__(
            self, session: SessionWriter | None, video: VideoFile | None,
            counted: str = 'smpl') -> None:
        """
        Subscribe.

        `session` and `video` are closed by `finish`; None writes none. `counted` is the topic,
        smpl or smpl_smoothed, whose people are counted.
        """
        super().__init__('recorder')
        self.counts = SessionCounts()
        self._counted = counted
        self._session, self._video = session, video
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix='recorder')
        # Each is written by one thread only, so no lock is needed.
        self._handed_over = self._done = 0
        self._last_mesh_ns = 0
        wanted = _TYPES if session is not None else (counted, 'mesh_markers')
        for topic in wanted:
            self.create_subscription(
                _TYPES[topic], topic, functools.partial(self._take, topic), self._qos(topic),
                raw=True)

    @property
    def records_pictures(self) -> bool:
        """Whether it subscribes to pictures."""
        return self._session is not None

    def finish(self) -> None:
        """Write what is waiting and close the files."""
        self._worker.shutdown(wait=True)
        for file in (self._session, self._video):
            if file is not None:
                self._guard(file.close)

    @staticmethod
    def _qos(topic: str) -> QoSProfile:
        best_effort = topic in (*_PICTURES, 'camera_info')
        return QoSProfile(depth=20, reliability=(
            ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE))

    def _take(self, topic: str, data: bytes) -> None:
        received_ns = time.time_ns()
        if topic == 'mesh_markers':
            self.counts.meshes += 1
            if self._session is None or received_ns - self._last_mesh_ns < _MESH_PERIOD_NS:
                return
            self._last_mesh_ns = received_ns
        if topic in _PICTURES and self._handed_over - self._done > _MOST_WAITING:
            self.counts.skipped += 1
            return
        self._handed_over += 1
        handle = {self._counted: self._people, 'image': self._picture,
                  'overlay': self._picture}.get(topic, self._write)
        self._worker.submit(self._guard, handle, topic, data, received_ns)

    def _guard(self, handle: Callable[..., None], *arguments: object) -> None:
        try:
            handle(*arguments)
        except Exception as error:  # noqa: B902 a full disk must not stop the pipeline
            if str(error) not in self.counts.errors:
                self.counts.errors.append(str(error))
                self.get_logger().error(f'recording: {error}')
        finally:
            self._done += 1

    def _people(self, topic: str, data: bytes, received_ns: int) -> None:
        message = deserialize_message(data, SmplArray)
        stamp_ns = nanoseconds(message.header.stamp)
        if message.image_width:
            self.counts.people[stamp_ns] = len(message.people)
        self.counts.tracks.update(person.track_id for person in message.people)
        self._write(topic, data, received_ns)

    def _picture(self, topic: str, data: bytes, received_ns: int) -> None:
        message = deserialize_message(data, Image)
        pixels = bgr_pixels(message)
        if topic == 'overlay' and self._video is not None:
            self._video.add(pixels, nanoseconds(message.header.stamp) * 1e-9)
        _, jpeg = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        compressed = CompressedImage(
            header=message.header, format='jpeg', data=array.array('B', jpeg.tobytes()))
        self._save(f'{topic}/compressed', CompressedImage, serialize_message(compressed),
                   received_ns)

    def _write(self, topic: str, data: bytes, received_ns: int) -> None:
        self._save(topic, _TYPES[topic], data, received_ns)

    def _save(self, topic: str, message_type: type, data: bytes, received_ns: int) -> None:
        if self._session is None:
            return
        stamp_ns = received_ns
        if message_type is not MarkerArray:
            # Every other message begins with its stamp, after the 4 bytes of the CDR header.
            seconds, rest = struct.unpack_from('<iI', data, 4)
            stamp_ns = seconds * 1_000_000_000 + rest
        name = topic if topic.startswith('/') else self.get_namespace().rstrip('/') + '/' + topic
        self._session.write(name, _type_name(message_type), bytes(data), received_ns, stamp_ns)
