# SPDX-License-Identifier: Apache-2.0
"""Node `person_detector`: images in, tracked person boxes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import sys
import time

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from hmr_ros.msg import PersonBoxArray
from hmr_ros.nodes.conversions import bgr_pixels, boxes_to_message
from hmr_ros.nodes.engine_node import EngineNode, threads_for
from hmr_ros.nodes.lifecycle import run_nodes
from hmr_ros.nodes.pairing import nanoseconds
from hmr_ros.nodes.qos import overridable, result_qos
from hmr_ros.perception.detection import HogPersonDetector, HogSettings
from hmr_ros.perception.learned_detection import LearnedPersonDetector, LearnedSettings
from hmr_ros.perception.person import PersonBox
from hmr_ros.perception.tracking import Forecast, PersonTracker, TrackerSettings

HOW_TO_GET_ONE = (
    'Train one (hmr train mgil_detector CONFIG --out DIR) and export it (hmr export mgil_detector '
    'DIR/weights.safetensors), set parameter detector_engine to the path of an ONNX file of your '
    'own with the outputs boxes and scores, or detector_method to hog, which needs none')


@dataclass(frozen=True)
class _Search:
    """
    An image to be searched.

    forecasts  how many images had had their boxes before a search when it came, itself included
    own        whether it was one of them
    """

    image: Image | CompressedImage
    forecasts: int
    own: bool


@dataclass(frozen=True)
class _Outlook:
    """What the last search gave: where people will be in images of `size`, (width, height)."""

    forecast: Forecast
    size: tuple[int, int]

    def boxes(self, image: Image | CompressedImage) -> list[PersonBox] | None:
        """Return the boxes in `image`; None when it must be searched for that."""
        if isinstance(image, Image) and (image.width, image.height) != self.size:
            return None
        return self.forecast.at(_seconds(image.header))


class PersonDetectorNode(EngineNode):
    """
    Publishes `person_boxes` for `image`.

    Detection is slow, so its images get their boxes at once from a forecast of the tracks (see
    `between_detections`); each search ends with a new forecast.
    """

    TABLE = 'person_detector'
    INPUT = 'image'

    def load(self) -> None:
        """Make detector and tracker as the parameters say."""
        self.unload()
        tracking = TrackerSettings(**self.parameters.group('tracking'))
        if self.parameters['detector_method'] == 'hog':
            self._detector = HogPersonDetector(HogSettings(**self.parameters.group('detector')))
        else:
            self._detector = self._learned_detector()
            # What its own threshold lets through may be a track.
            tracking = replace(tracking, birth_score=0.0)
        self._tracker = PersonTracker(tracking)
        self.diagnostics.facts['detector'] = self.parameters['detector_method']
        self._outlook: _Outlook | None = None
        self._forecasts = 0
        self._last_header = Header()

    def create_outputs(self) -> None:
        """Advertise the boxes."""
        self._publisher = self.create_lifecycle_publisher(
            PersonBoxArray, 'person_boxes', result_qos(), qos_overriding_options=overridable())

    def subscribe(self) -> None:
        """Listen to images."""
        self._outlook = None
        self.listen_to_images(self._on_image)

    def process(self, item: _Search) -> None:
        """Detect and track; publish what was not published before."""
        start = time.perf_counter()
        header, pixels = item.image.header, bgr_pixels(item.image)
        boxes = self._tracker.update(self._detector.detect(pixels), _seconds(header))
        self.diagnostics.add_latency('detection', (time.perf_counter() - start) * 1e3)
        height, width = pixels.shape[:2]
        self._outlook = _Outlook(self._tracker.forecast(), (width, height))
        # Boxes of an image that newer ones have overtaken would make time go back for who listens.
        if not item.own and item.forecasts == self._forecasts:
            self._publish(boxes, header, (width, height))

    def note_replaced(self) -> None:
        """Count an image that was not searched; one with predicted boxes is not lost."""
        predicted = self.parameters['between_detections'] == 'predict'
        self.diagnostics.counters['frames_not_searched' if predicted else 'frames_dropped'] += 1

    def farewell(self) -> None:
        """Publish that nobody is there any more."""
        self._publisher.publish(boxes_to_message([], self._last_header, (0, 0)))

    def _learned_detector(self) -> LearnedPersonDetector:
        engine = self.open_engine(
            self.parameters['detector_engine'], 1, threads_for(self.parameters['threads']),
            HOW_TO_GET_ONE)
        self.show_engine(engine)
        return LearnedPersonDetector(engine, LearnedSettings(
            max_people=self.parameters['detector.max_people'],
            **self.parameters.group('learned_detector')))

    def _on_image(self, message: Image | CompressedImage) -> None:
        self.diagnostics.note_input()
        # The worker replaces the outlook at any time.
        outlook, boxes = self._outlook, None
        if outlook is not None and self.parameters['between_detections'] == 'predict':
            boxes = outlook.boxes(message)
        if boxes is not None:
            self._publish(boxes, message.header, outlook.size)
            self._forecasts += 1
        self.submit(_Search(message, self._forecasts, boxes is not None))

    def _publish(
            self, boxes: Sequence[PersonBox], header: Header, size: tuple[int, int]) -> None:
        self._last_header = header
        self._publisher.publish(boxes_to_message(boxes, header, size))
        self.diagnostics.facts['persons'] = str(len(boxes))
        self.diagnostics.add_latency('end_to_end', self.age_ms(header.stamp))


def _seconds(header: Header) -> float:
    return nanoseconds(header.stamp) * 1e-9


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [PersonDetectorNode()], args)


if __name__ == '__main__':
    sys.exit(main())
