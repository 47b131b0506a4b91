# SPDX-License-Identifier: Apache-2.0
"""Node `mesh_markers`: SMPL-format people in; meshes, skeletons, labels and an overlay out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
import sys
import time

import numpy as np
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from hmr_ros.body import load_body, load_whole_body, WholeBodyModel
from hmr_ros.body.model import SkinnedModel
from hmr_ros.msg import Keypoints2DArray, SmplArray
from hmr_ros.nodes.conversions import (
    bgr_pixels, camera_from_message, check_body, image_message, keypoints_from_message,
    people_from_message)
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import ManagedNode, run_nodes
from hmr_ros.nodes.markers import BONES, MarkerScene, MarkerStyle
from hmr_ros.nodes.pairing import CompanionPairing, ExactPairing, nanoseconds, REWIND_NS
from hmr_ros.nodes.qos import image_output_qos, overridable, result_qos
from hmr_ros.perception.overlay import draw_keypoints, OverlayRenderer
from hmr_ros.perception.person import Person
from hmr_ros.perception.posing import smpl_pose, whole_body_pose
from hmr_ros.perception.simcc import COCO_LIMBS

ImageMessage = Image | CompressedImage
# A stamp that comes a little early still belongs to the next period.
RATE_TOLERANCE = 0.9
LIMBS = {Keypoints2DArray.JOINT_SET_COCO17: COCO_LIMBS, Keypoints2DArray.JOINT_SET_SMPL24: BONES}


@dataclass(frozen=True)
class Frame:
    """What belongs to one image; without it, only markers are made."""

    people: SmplArray
    image: ImageMessage | None = None
    keypoints: Keypoints2DArray | None = None


@dataclass(frozen=True)
class Display:
    """What shows people of one body."""

    body: SkinnedModel
    scene: MarkerScene
    renderer: OverlayRenderer

    @classmethod
    def of(cls, body: SkinnedModel) -> Display:
        """Show people of `body`; nobody is there yet."""
        return cls(body, MarkerScene(body.faces), OverlayRenderer(body.faces))


class MeshMarkersNode(ManagedNode):
    """
    Publishes `mesh_markers` and `overlay` for the people of `smpl`.

    Each output is made only while somebody subscribes to it, and images and keypoints are taken
    only while somebody subscribes to the overlay. That waits for `keypoints` of its stamp while
    they are published; markers never wait.
    """

    TABLE = 'mesh_markers'
    INPUT = 'smpl'

    def load(self) -> None:
        """Load the body models of both layouts."""
        self._shows = Display.of(load_body(self.parameters['body_model']))
        # Before whole bodies come, so that a file that is not there is known at configure.
        self._displays = {
            SmplArray.LAYOUT_SMPL: self._shows, SmplArray.LAYOUT_SMPLX: Display.of(
                load_whole_body(self.parameters['whole_body_model']))}
        self._last_header = Header()
        self._last_mesh_ns = 0
        self._image_input: Subscription | None = None
        self._keypoints_input: Subscription | None = None
        self._pairing: ExactPairing[ImageMessage, SmplArray] = ExactPairing(1)
        self._companions: CompanionPairing[Frame, Keypoints2DArray] = CompanionPairing(1)
        self.diagnostics.facts['body_model'] = self._shows.body.name

    def create_outputs(self) -> None:
        """Advertise markers and overlay."""
        self._markers = self.create_lifecycle_publisher(
            MarkerArray, 'mesh_markers', result_qos(), qos_overriding_options=overridable())
        self._overlay = self.create_lifecycle_publisher(
            Image, 'overlay', image_output_qos(), qos_overriding_options=overridable())

    def subscribe(self) -> None:
        """Listen to people; images follow when somebody looks at the overlay."""
        self._pairing = ExactPairing(self.parameters['paired_images'])
        self._companions = CompanionPairing(self.parameters['paired_images'])
        self._image_input = self._keypoints_input = None
        self.listen(SmplArray, 'smpl', self._on_people, result_qos())

    def process(self, item: Frame) -> None:
        """Skin the people once, then make what somebody subscribes to."""
        message = item.people
        wants_markers = self._markers.get_subscription_count() and self._mesh_is_due(message)
        if not wants_markers and item.image is None:
            return
        self._show(message)
        people = people_from_message(message)
        vertices = self._skin(people)
        self._last_header = message.header
        if wants_markers:
            self._publish_markers(message.header, people, vertices)
        if item.image is not None:
            self._publish_overlay(item, people, vertices)

    def farewell(self) -> None:
        """Delete what is shown."""
        self._markers.publish(self._shows.scene.clear(self._last_header))
        self._follow_overlay(False)

    def _on_people(self, message: SmplArray) -> None:
        self.diagnostics.note_input()
        watched = self._overlay.get_subscription_count() > 0
        self._follow_overlay(watched)
        pair = self._pairing.add_second(message.header.stamp, message) if watched else None
        self.diagnostics.counters['people_without_image'] = self._pairing.lost
        if pair is None or not self._complete(*pair):
            self.submit(Frame(message))

    def _on_image(self, message: ImageMessage) -> None:
        pair = self._pairing.add_first(message.header.stamp, message)
        # The people came first: their markers are out, the overlay follows.
        if pair is not None:
            self._complete(*pair)

    def _on_keypoints(self, message: Keypoints2DArray) -> None:
        # A last message, of no image, says that no more will come.
        if message.image_width:
            self._take(self._companions.add_companion(message.header.stamp, message))
        else:
            self._take(self._companions.end())

    def _complete(self, image: ImageMessage, people: SmplArray) -> bool:
        """Hand over a frame for the overlay; returns False while it waits for its keypoints."""
        if self._companions.is_waiting and not self.count_publishers(
                self.resolve_topic_name('keypoints')):
            self._take(self._companions.end())
        ready = self._companions.add_frame(people.header.stamp, Frame(people, image))
        self._take(ready)
        return bool(ready)

    def _take(self, ready: list[tuple[Frame, Keypoints2DArray | None]]) -> None:
        for frame, keypoints in ready:
            self.submit(replace(frame, keypoints=keypoints))

    def _follow_overlay(self, watched: bool) -> None:
        """Subscribe to what the overlay shows while somebody watches it, and only then."""
        self._image_input = self._kept(
            self._image_input, watched, lambda: self.subscribe_to_images(self._on_image))
        self._keypoints_input = self._kept(
            self._keypoints_input, watched and self.parameters['keypoints'],
            lambda: self.create_subscription(
                Keypoints2DArray, 'keypoints', self._on_keypoints, result_qos(),
                qos_overriding_options=overridable()))
        if self._image_input is None:
            self._pairing.clear()
        if self._keypoints_input is None:
            self._take(self._companions.end())

    def _kept(
            self, subscription: Subscription | None, wanted: bool,
            make: Callable[[], Subscription]) -> Subscription | None:
        """Make or destroy a subscription as it is wanted; returns what there is then."""
        if wanted and subscription is None:
            return make()
        if not wanted and subscription is not None:
            self.destroy_subscription(subscription)
            return None
        return subscription

    def _mesh_is_due(self, message: SmplArray) -> bool:
        now, period = nanoseconds(message.header.stamp), 1e9 / self.parameters['max_rate_hz']
        # Long before the last one: the recording began again. A little: its overlay had to wait.
        if -REWIND_NS < now - self._last_mesh_ns < RATE_TOLERANCE * period:
            return False
        self._last_mesh_ns = now
        return True

    def _show(self, message: SmplArray) -> None:
        """Turn to the body of a message. Raises NodeError when it is not the one of this node."""
        display = self._display_for(message.layout)
        check_body(message, display.body, self.resolve_topic_name('smpl'))
        if display is not self._shows:
            # Their numbers start anew; nobody of before stays on the screen.
            if self._shows.scene.shows_somebody:
                self._markers.publish(self._shows.scene.clear(message.header))
            self._shows = display
            self.diagnostics.facts['body_model'] = display.body.name

    def _display_for(self, layout: int) -> Display:
        if layout not in self._displays:
            raise NodeError(f'layout is {layout}; expected LAYOUT_SMPL or LAYOUT_SMPLX')
        return self._displays[layout]

    def _skin(self, people: list[Person]) -> np.ndarray:
        body = self._shows.body
        if not people:
            return np.zeros((0, len(body.v_template), 3), np.float32)
        start = time.perf_counter()
        pose = whole_body_pose if isinstance(body, WholeBodyModel) else smpl_pose
        vertices, _ = body.skin(*pose(people), np.stack([person.transl for person in people]))
        self.diagnostics.add_latency('skinning', (time.perf_counter() - start) * 1e3)
        return vertices

    def _publish_markers(
            self, header: Header, people: list[Person], vertices: np.ndarray) -> None:
        start = time.perf_counter()
        style = MarkerStyle(
            self.parameters['mesh'], self.parameters['skeleton'], self.parameters['labels'],
            self.parameters['opacity'], self.parameters['lifetime_s'])
        self._markers.publish(self._shows.scene.compose(header, people, vertices, style))
        self.diagnostics.add_latency('markers', (time.perf_counter() - start) * 1e3)
        self.diagnostics.add_latency('end_to_end', self.age_ms(header.stamp))

    def _publish_overlay(
            self, frame: Frame, people: list[Person], vertices: np.ndarray) -> None:
        start = time.perf_counter()
        pixels = bgr_pixels(frame.image)
        if people:
            pixels = self._shows.renderer.draw(
                pixels, camera_from_message(frame.people), vertices,
                [person.track_id for person in people],
                np.stack([person.joints2d for person in people]),
                np.stack([person.box for person in people]),
                [person.hands_and_face.hand_joints2d for person in people
                 if person.hands_and_face is not None])
        if frame.keypoints is not None:
            pixels = self._with_keypoints(pixels, frame.keypoints)
        self._overlay.publish(image_message(pixels, frame.people.header))
        self.diagnostics.add_latency('overlay', (time.perf_counter() - start) * 1e3)

    def _with_keypoints(self, pixels: np.ndarray, message: Keypoints2DArray) -> np.ndarray:
        try:
            people = keypoints_from_message(message)
        except NodeError as error:
            # The meshes can be shown without them.
            self.complain('keypoints', str(error))
            return pixels
        return draw_keypoints(pixels, people, LIMBS[message.joint_set])


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [MeshMarkersNode()], args)


if __name__ == '__main__':
    sys.exit(main())
