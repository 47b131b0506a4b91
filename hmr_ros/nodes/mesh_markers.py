# SPDX-License-Identifier: Apache-2.0
"""Node `mesh_markers`: SMPL-format people in; meshes, skeletons, labels and an overlay out."""

from __future__ import annotations

import sys
import time

import numpy as np
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from hmr_ros.body import BodyModel, load_body
from hmr_ros.msg import SmplArray
from hmr_ros.nodes.conversions import (
    bgr_pixels, camera_from_message, image_message, person_from_message)
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import ManagedNode, run_nodes
from hmr_ros.nodes.markers import MarkerScene, MarkerStyle
from hmr_ros.nodes.pairing import ExactPairing, nanoseconds
from hmr_ros.nodes.qos import image_output_qos, overridable, result_qos
from hmr_ros.perception.overlay import OverlayRenderer
from hmr_ros.perception.person import Person
from hmr_ros.perception.rotations import axis_angle_to_matrix

ImageMessage = Image | CompressedImage
# A stamp that comes a little early still belongs to the next period.
RATE_TOLERANCE = 0.9


class MeshMarkersNode(ManagedNode):
    """
    Publishes `mesh_markers` and `overlay` for the people of `smpl`.

    Each output is made only while somebody subscribes to it, and images are taken only while
    somebody subscribes to the overlay.
    """

    TABLE = 'mesh_markers'
    INPUT = 'smpl'

    def load(self) -> None:
        """Load the body model."""
        self._body: BodyModel = load_body(self.parameters['body_model'])
        self._scene = MarkerScene(self._body.faces)
        self._renderer = OverlayRenderer(self._body.faces)
        self._last_header = Header()
        self._last_mesh_ns = 0
        self._image_input: Subscription | None = None
        self._pairing: ExactPairing[ImageMessage, SmplArray] = ExactPairing(1)
        self.diagnostics.facts['body_model'] = self._body.name

    def create_outputs(self) -> None:
        """Advertise markers and overlay."""
        self._markers = self.create_lifecycle_publisher(
            MarkerArray, 'mesh_markers', result_qos(), qos_overriding_options=overridable())
        self._overlay = self.create_lifecycle_publisher(
            Image, 'overlay', image_output_qos(), qos_overriding_options=overridable())

    def subscribe(self) -> None:
        """Listen to people; images follow when somebody looks at the overlay."""
        self._pairing = ExactPairing(self.parameters['paired_images'])
        self._image_input = None
        self.listen(SmplArray, 'smpl', self._on_people, result_qos())

    def process(self, item: tuple[ImageMessage | None, SmplArray]) -> None:
        """Skin the people once, then make what somebody subscribes to."""
        image, message = item
        wants_markers = self._markers.get_subscription_count() and self._mesh_is_due(message)
        if not wants_markers and image is None:
            return
        self._check_body(message)
        people = [person_from_message(person) for person in message.people]
        vertices = self._skin(people)
        self._last_header = message.header
        if wants_markers:
            self._publish_markers(message.header, people, vertices)
        if image is not None:
            self._publish_overlay(image, message, people, vertices)

    def farewell(self) -> None:
        """Delete what is shown."""
        self._markers.publish(self._scene.clear(self._last_header))
        self._follow_overlay(False)

    def _on_people(self, message: SmplArray) -> None:
        self.diagnostics.note_input()
        watched = self._overlay.get_subscription_count() > 0
        self._follow_overlay(watched)
        pair = self._pairing.add_second(message.header.stamp, message) if watched else None
        self.diagnostics.counters['people_without_image'] = self._pairing.lost
        self.submit(pair or (None, message))

    def _on_image(self, message: ImageMessage) -> None:
        pair = self._pairing.add_first(message.header.stamp, message)
        # The people came first: their markers are out, the overlay follows.
        if pair is not None:
            self.submit(pair)

    def _follow_overlay(self, watched: bool) -> None:
        """Subscribe to images while somebody watches the overlay, and only then."""
        if watched and self._image_input is None:
            self._image_input = self.subscribe_to_images(self._on_image)
        elif not watched and self._image_input is not None:
            self.destroy_subscription(self._image_input)
            self._image_input = None
            self._pairing.clear()

    def _mesh_is_due(self, message: SmplArray) -> bool:
        now, period = nanoseconds(message.header.stamp), 1e9 / self.parameters['max_rate_hz']
        # A stamp before the last one: the recording began again.
        if 0 <= now - self._last_mesh_ns < RATE_TOLERANCE * period:
            return False
        self._last_mesh_ns = now
        return True

    def _check_body(self, message: SmplArray) -> None:
        if message.body_model_sha256 != self._body.sha256:
            raise NodeError(
                f'people on {self.resolve_topic_name("smpl")} have the body model '
                f'{message.body_model} ({message.body_model_sha256[:12]}), this node has '
                f'{self._body.name} ({self._body.sha256[:12]}); set body_model alike')

    def _skin(self, people: list[Person]) -> np.ndarray:
        if not people:
            return np.zeros((0, len(self._body.v_template), 3), np.float32)
        start = time.perf_counter()
        rotations = axis_angle_to_matrix(np.stack([person.pose for person in people]))
        vertices, _ = self._body.skin(
            rotations, np.stack([person.betas for person in people]),
            np.stack([person.transl for person in people]))
        self.diagnostics.add_latency('skinning', (time.perf_counter() - start) * 1e3)
        return vertices

    def _publish_markers(
            self, header: Header, people: list[Person], vertices: np.ndarray) -> None:
        start = time.perf_counter()
        style = MarkerStyle(
            self.parameters['mesh'], self.parameters['skeleton'], self.parameters['labels'],
            self.parameters['opacity'], self.parameters['lifetime_s'])
        self._markers.publish(self._scene.compose(header, people, vertices, style))
        self.diagnostics.add_latency('markers', (time.perf_counter() - start) * 1e3)
        self.diagnostics.add_latency('end_to_end', self.age_ms(header.stamp))

    def _publish_overlay(
            self, image: ImageMessage, message: SmplArray, people: list[Person],
            vertices: np.ndarray) -> None:
        start = time.perf_counter()
        pixels = bgr_pixels(image)
        if people:
            pixels = self._renderer.draw(
                pixels, camera_from_message(message), vertices,
                [person.track_id for person in people],
                np.stack([person.joints2d for person in people]),
                np.stack([person.box for person in people]))
        self._overlay.publish(image_message(pixels, message.header))
        self.diagnostics.add_latency('overlay', (time.perf_counter() - start) * 1e3)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [MeshMarkersNode()], args)


if __name__ == '__main__':
    sys.exit(main())
