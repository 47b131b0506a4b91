# SPDX-License-Identifier: Apache-2.0
"""Node `person_detector`: images in, tracked person boxes out."""

from __future__ import annotations

import sys
import time

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from hmr_ros.msg import PersonBoxArray
from hmr_ros.nodes.conversions import bgr_pixels, boxes_to_message
from hmr_ros.nodes.lifecycle import ManagedNode, run_nodes
from hmr_ros.nodes.pairing import nanoseconds
from hmr_ros.nodes.qos import overridable, result_qos
from hmr_ros.perception.detection import HogPersonDetector, HogSettings
from hmr_ros.perception.tracking import PersonTracker, TrackerSettings


class PersonDetectorNode(ManagedNode):
    """Publishes `person_boxes` for every processed image of `image`."""

    TABLE = 'person_detector'
    INPUT = 'image'

    def load(self) -> None:
        """Make detector and tracker as the parameters say."""
        self._detector = HogPersonDetector(HogSettings(**self.parameters.group('detector')))
        self._tracker = PersonTracker(TrackerSettings(**self.parameters.group('tracking')))
        self._last_header = Header()

    def create_outputs(self) -> None:
        """Advertise the boxes."""
        self._publisher = self.create_lifecycle_publisher(
            PersonBoxArray, 'person_boxes', result_qos(), qos_overriding_options=overridable())

    def subscribe(self) -> None:
        """Listen to images."""
        self.listen_to_images(self._on_image)

    def process(self, item: Image | CompressedImage) -> None:
        """Detect, track, publish."""
        start = time.perf_counter()
        pixels = bgr_pixels(item)
        detections = self._detector.detect(pixels)
        boxes = self._tracker.update(detections, nanoseconds(item.header.stamp) * 1e-9)
        self.diagnostics.add_latency('detection', (time.perf_counter() - start) * 1e3)
        self._last_header = item.header
        height, width = pixels.shape[:2]
        self._publisher.publish(boxes_to_message(boxes, item.header, (width, height)))
        self.diagnostics.facts['persons'] = str(len(boxes))
        self.diagnostics.add_latency('end_to_end', self.age_ms(item.header.stamp))

    def farewell(self) -> None:
        """Publish that nobody is there any more."""
        self._publisher.publish(boxes_to_message([], self._last_header, (0, 0)))

    def _on_image(self, message: Image | CompressedImage) -> None:
        self.diagnostics.note_input()
        self.submit(message)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [PersonDetectorNode()], args)


if __name__ == '__main__':
    sys.exit(main())
