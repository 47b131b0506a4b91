# SPDX-License-Identifier: Apache-2.0
"""What nodes share that run an engine on the people of `person_boxes`."""

from __future__ import annotations

from typing import Any, Protocol

from rclpy.lifecycle import LifecyclePublisher
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from hmr_ros.msg import PersonBoxArray
from hmr_ros.nodes.engine_node import EngineNode, threads_for
from hmr_ros.nodes.pairing import ExactPairing
from hmr_ros.nodes.qos import overridable, result_qos
from hmr_ros.perception.crop_reading import FrameRecord
from hmr_ros.perception.keypoints2d import KeypointFinder, settings_of
from hmr_ros.runtime import Engine

ImageMessage = Image | CompressedImage
HOW_TO_GET_ONE = (
    'hmr engines lists those there are. Train one (hmr train mgil CONFIG --out DIR) and export it '
    '(hmr export mgil DIR/weights.safetensors), or set parameter keypoint_engine to the path of an '
    'ONNX file of your own with the outputs simcc_x and simcc_y')


class Reader(Protocol):
    """What reads the people of a frame."""

    record: FrameRecord
    rejected_boxes: int
    rejected_people: int


class BoxesNode(EngineNode):
    """
    Works on every pair of `image` and `person_boxes` with the same stamp.

    A subclass sets `OUTPUT`, the type and topic of what it publishes by `_publisher`, and takes
    pairs in `process`.
    """

    INPUT = 'person_boxes'
    OUTPUT: tuple[type, str]

    def __init__(self, **node_arguments: Any) -> None:
        """Declare parameters. Raises NodeError when one of them is not allowed."""
        super().__init__(**node_arguments)
        self._last_header = Header()
        self._pairing: ExactPairing[ImageMessage, PersonBoxArray] = ExactPairing(1)

    def open_finder(self) -> tuple[Engine, KeypointFinder]:
        """
        Open the engine that parameter keypoint_engine names, and what reads it.

        Raises NodeError, which says how to get one, when the manifest has no such name.
        """
        max_people = self.parameters['max_people']
        engine = self.open_engine(
            self.parameters['keypoint_engine'], max_people,
            threads_for(self.parameters['threads']), HOW_TO_GET_ONE)
        return engine, KeypointFinder(
            engine, settings_of(engine, max_people, self.parameters['score_mode']))

    def create_outputs(self) -> None:
        """Advertise the people."""
        self._publisher: LifecyclePublisher = self.create_lifecycle_publisher(
            *self.OUTPUT, result_qos(), qos_overriding_options=overridable())

    def subscribe(self) -> None:
        """Listen to images and boxes."""
        self._pairing = ExactPairing(self.parameters['paired_images'])
        self.listen_to_images(self._on_image)
        self.listen(PersonBoxArray, 'person_boxes', self._on_boxes, result_qos())

    def publish_people(self, message: Any) -> None:
        """Publish the people of one image."""
        self._last_header = message.header
        self._publisher.publish(message)
        self.diagnostics.facts['persons'] = str(len(message.people))
        self.diagnostics.add_latency('end_to_end', self.age_ms(message.header.stamp))

    def note_record(self, reader: Reader, decoding: str) -> None:
        """Show times and counts of the last frame; `decoding` is what the last stage is called."""
        record = reader.record
        for stage, milliseconds in (('crop', record.crop_ms), ('network', record.network_ms),
                                    (decoding, record.decode_ms)):
            self.diagnostics.add_latency(stage, milliseconds)
        self.diagnostics.counters['boxes_rejected'] = reader.rejected_boxes
        self.diagnostics.counters['people_rejected'] = reader.rejected_people
        if record.rejected_boxes:
            self.complain('box', f'{record.rejected_boxes} person boxes show nothing of the '
                          'image and were skipped; does the detector look at the same image?')
        if record.rejected_people:
            self.complain('people', f'the engine gave numbers that are not finite for '
                          f'{record.rejected_people} people, who were skipped; try precision fp32')

    def _on_image(self, message: ImageMessage) -> None:
        self._submit(self._pairing.add_first(message.header.stamp, message))

    def _on_boxes(self, message: PersonBoxArray) -> None:
        self.diagnostics.note_input()
        self._submit(self._pairing.add_second(message.header.stamp, message))

    def _submit(self, pair: tuple[ImageMessage, PersonBoxArray] | None) -> None:
        counters = self.diagnostics.counters
        if self._pairing.rewinds > counters['stamps_went_back']:
            self.complain('rewind', 'stamps went back by more than a second (a bag that starts '
                          'again, or a reset simulation); images kept so far are forgotten')
        counters['stamps_went_back'] = self._pairing.rewinds
        counters['boxes_without_image'] = self._pairing.lost
        # No subscriber, no work: engines are expensive.
        if pair is not None and self._publisher.get_subscription_count():
            self.submit(pair)
