# SPDX-License-Identifier: Apache-2.0
"""Node `video_source`: a file, camera, stream or folder in, images out."""

from __future__ import annotations

import copy
import sys
import time

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from rclpy.duration import Duration
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from hmr_ros.nodes.calibration import read_camera_info
from hmr_ros.nodes.conversions import image_message
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import ManagedNode, run_nodes
from hmr_ros.nodes.qos import image_output_qos, overridable
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.video import Ending, VideoReader


class VideoSourceNode(ManagedNode):
    """
    Publishes `image` and `camera_info`.

    `finished` is true when a file or folder has come to its end.
    """

    TABLE = 'video_source'

    def load(self) -> None:
        """Open the source and read the calibration."""
        self.finished = False
        if not self.parameters['source']:
            raise NodeError('parameter source is empty; give a video file, a folder of pictures, '
                            'a camera index such as 0, or a stream URL')
        self._camera_info = read_camera_info(self.parameters['camera_info_file'])
        ending = Ending.LOOP if self.parameters['loop'] else Ending.STOP
        self._reader = VideoReader(
            self.parameters['source'], ending, self.parameters['rate_hz'] or None)
        self.diagnostics.facts.update(
            source=self.parameters['source'], frame_rate_hz=f'{self._reader.frame_rate_hz:.2f}')

    def unload(self) -> None:
        """Close the source."""
        if hasattr(self, '_reader'):
            self._reader.close()

    def create_outputs(self) -> None:
        """Advertise images and calibration."""
        self._images = self.create_lifecycle_publisher(
            Image, 'image', image_output_qos(), qos_overriding_options=overridable())
        self._infos = self.create_lifecycle_publisher(
            CameraInfo, 'camera_info', image_output_qos(), qos_overriding_options=overridable())

    def subscribe(self) -> None:
        """Begin to play; this node's input is its source."""
        self.in_background(self._run)

    def _run(self) -> None:
        """Play until the end or until deactivate; a source that is lost is opened again."""
        while self.is_active and not self.finished:
            try:
                self._play()
            except Exception as error:  # noqa: B902 whatever a driver throws, the node stays
                self._wait_for_source(error)

    def _play(self) -> None:
        """Publish pictures until the source ends. Raises PerceptionError when it is lost."""
        origin = None
        while self.is_active:
            item = self._reader.read()
            if item is None:
                self._finish()
                return
            self.diagnostics.note_input()
            now = self.get_clock().now()
            origin = origin or now - Duration(nanoseconds=int(item[1] * 1e9))
            due = origin + Duration(nanoseconds=int(item[1] * 1e9))
            self._publish_when_due(item[0], now if self._comes_unasked() else due)

    def _comes_unasked(self) -> bool:
        """Whether a picture's time is the time at which it was read."""
        return self._reader.kind.live or self.parameters['pacing'] == 'as_fast_as_possible'

    def _publish_when_due(self, pixels: np.ndarray, stamp: Time) -> None:
        wait_s = (stamp - self.get_clock().now()).nanoseconds * 1e-9
        if -wait_s > 1.0 / self._reader.frame_rate_hz and not self._comes_unasked():
            self.diagnostics.counters['frames_dropped'] += 1
            return
        if wait_s > 0 and self.interrupted.wait(wait_s):
            return
        header = Header(stamp=stamp.to_msg(), frame_id=self.parameters['frame_id'])
        # First, so that who has the image knows its camera.
        self._infos.publish(self._info(header, pixels))
        self._images.publish(image_message(pixels, header))
        self.diagnostics.counters['frames_processed'] += 1
        self.diagnostics.add_latency('end_to_end', self.age_ms(header.stamp))

    def _info(self, header: Header, pixels: np.ndarray) -> CameraInfo:
        message = copy.copy(self._camera_info)
        message.header = header
        if not message.width:
            message.height, message.width = pixels.shape[:2]
        return message

    def _finish(self) -> None:
        self.finished = True
        self.diagnostics.facts['finished'] = 'true'
        self.get_logger().info(f'{self.parameters["source"]} has come to its end')

    def _wait_for_source(self, error: Exception) -> None:
        """Complain, wait, and try to open the source once."""
        self.complain('source', f'{error}. Trying again every '
                      f'{self.parameters["reopen_s"]} s', DiagnosticStatus.ERROR)
        self.diagnostics.counters['source_lost'] += 1
        begin = time.monotonic()
        while self.is_active and not self.interrupted.wait(self.parameters['reopen_s']):
            try:
                self._reader.reopen()
            except PerceptionError as again:
                self.complain('source', f'{again}. Lost {time.monotonic() - begin:.0f} s ago',
                              DiagnosticStatus.ERROR)
                continue
            self.get_logger().info(f'{self.parameters["source"]} is back')
            return


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [VideoSourceNode()], args)


if __name__ == '__main__':
    sys.exit(main())
