# SPDX-License-Identifier: Apache-2.0
"""Node `detection_bridge`: another detector's boxes in, tracked person boxes out."""

from __future__ import annotations

import sys
import time
from typing import Any

from std_msgs.msg import Header

from hmr_ros.msg import PersonBoxArray
from hmr_ros.nodes.conversions import boxes_to_message
from hmr_ros.nodes.detections import (
    detection_array_type, FoundPeople, people_from_detections)
from hmr_ros.nodes.lifecycle import ManagedNode, run_nodes
from hmr_ros.nodes.pairing import nanoseconds
from hmr_ros.nodes.qos import image_qos, overridable, result_qos
from hmr_ros.perception.person import PersonBox
from hmr_ros.perception.tracking import PersonTracker, TrackerSettings

# vision_msgs does not say how large the image was.
UNKNOWN_SIZE = (0, 0)
_MOST_OTHERS = 20


class DetectionBridgeNode(ManagedNode):
    """Publishes `person_boxes` for every vision_msgs/Detection2DArray on `detections`."""

    TABLE = 'detection_bridge'
    INPUT = 'detections'

    def load(self) -> None:
        """Find vision_msgs and make the tracker. Raises NodeError without vision_msgs."""
        self._message_type = detection_array_type()
        # A foreign score has a scale of its own: min_score alone judges it.
        self._tracker = PersonTracker(
            TrackerSettings(birth_score=0.0, **self.parameters.group('tracking')))
        self._detector_tracks = False
        self._others: set[str] = set()
        self._last_header = Header()

    def create_outputs(self) -> None:
        """Advertise the boxes."""
        self._publisher = self.create_lifecycle_publisher(
            PersonBoxArray, 'person_boxes', result_qos(), qos_overriding_options=overridable())

    def subscribe(self) -> None:
        """Listen to detections, best effort because that matches every detector."""
        self.listen(self._message_type, 'detections', self._on_detections, image_qos())

    def process(self, item: Any) -> None:
        """Convert, track where nobody has, publish; `item` is a Detection2DArray."""
        start = time.perf_counter()
        found = people_from_detections(
            item, self.parameters['person_class_ids'], self.parameters['min_score'])
        self._report(found)
        boxes = self._named(found.boxes, nanoseconds(item.header.stamp) * 1e-9)
        self.diagnostics.add_latency('conversion', (time.perf_counter() - start) * 1e3)
        self._last_header = item.header
        self._publisher.publish(boxes_to_message(boxes, item.header, UNKNOWN_SIZE))
        self.diagnostics.facts['persons'] = str(len(boxes))
        self.diagnostics.add_latency('end_to_end', self.age_ms(item.header.stamp))

    def farewell(self) -> None:
        """Publish that nobody is there any more."""
        self._publisher.publish(boxes_to_message([], self._last_header, UNKNOWN_SIZE))

    def _on_detections(self, message: Any) -> None:
        self.diagnostics.note_input()
        self.submit(message)

    def _named(self, boxes: list[PersonBox], stamp_s: float) -> list[PersonBox]:
        # Once the detector has named somebody, its empty ids are people it is not yet sure of.
        self._detector_tracks |= any(box.track_id for box in boxes)
        if self._detector_tracks or not self.parameters['track']:
            return boxes
        return self._tracker.update(boxes, stamp_s)

    def _report(self, found: FoundPeople) -> None:
        """Show what was left out, so that a wrong parameter can be seen."""
        if len(self._others) < _MOST_OTHERS:
            self._others |= found.others
            self.diagnostics.facts['other class ids'] = ', '.join(map(repr, sorted(self._others)))
        if found.skipped:
            self.diagnostics.counters['boxes_rejected'] += len(found.skipped)
            self.complain('box', f'{len(found.skipped)} person boxes on '
                          f'{self.resolve_topic_name("detections")} were skipped; '
                          f'{found.skipped[0]}')


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [DetectionBridgeNode()], args)


if __name__ == '__main__':
    sys.exit(main())
