# SPDX-License-Identifier: Apache-2.0
"""What the node digitizer sees: the newest frame that shows people, and who they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from std_msgs.msg import Header

from hmr_ros.body import load_body, load_whole_body
from hmr_ros.body.model import SkinnedModel
from hmr_ros.msg import Keypoints2DArray, SmplArray
from hmr_ros.nodes.boxes_node import ImageMessage
from hmr_ros.nodes.conversions import (
    camera_from_message, check_body, keypoints_from_message, people_from_message)
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import ManagedNode
from hmr_ros.nodes.pairing import CompanionPairing, ExactPairing
from hmr_ros.nodes.qos import result_qos
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.digitizer.body_joints import BodyJoints
from hmr_ros.perception.digitizer.joints import completed, Joints
from hmr_ros.perception.person import Person, PersonKeypoints


@dataclass(frozen=True)
class Sight:
    """One frame with people; `bodies` is None where none were recovered."""

    image: ImageMessage
    keypoints: Keypoints2DArray
    bodies: SmplArray | None = None

    @property
    def header(self) -> Header:
        """Header of the image."""
        return self.image.header


@dataclass(frozen=True)
class Seen:
    """
    One person of a frame.

    joints      in pixels of the image
    body        what was recovered of the person, and
    camera      the camera that it was recovered with; None where nothing was
    """

    track_id: str
    joints: Joints
    body: Person | None = None
    camera: Camera | None = None

    @property
    def distance_m(self) -> float | None:
        """Metres to the pelvis, where it is known."""
        return None if self.body is None else float(np.linalg.norm(self.body.joints3d[0]))


class SightInput:
    """Joins `image`, `keypoints` and, while they come, `smpl`; keeps the newest with people."""

    def __init__(self, node: ManagedNode) -> None:
        self._node = node
        self.newest: Sight | None = None

    def listen(self) -> None:
        """Subscribe until deactivate; what was seen before is forgotten."""
        capacity, node = self._node.parameters['paired_images'], self._node
        self.newest = None
        self._pairing: ExactPairing[ImageMessage, Keypoints2DArray] = ExactPairing(capacity)
        self._companions: CompanionPairing[Sight, SmplArray] = CompanionPairing(capacity)
        node.listen_to_images(self._on_image)
        node.listen(Keypoints2DArray, 'keypoints', self._on_keypoints, result_qos())
        node.listen(SmplArray, 'smpl', self._on_people, result_qos())

    def _on_image(self, message: ImageMessage) -> None:
        self._pair(self._pairing.add_first(message.header.stamp, message))

    def _on_keypoints(self, message: Keypoints2DArray) -> None:
        self._node.diagnostics.note_input()
        self._pair(self._pairing.add_second(message.header.stamp, message))

    def _on_people(self, message: SmplArray) -> None:
        # A last message, of no image, says that no more will come.
        if message.image_width:
            self._take(self._companions.add_companion(message.header.stamp, message))
        else:
            self._take(self._companions.end())

    def _pair(self, pair: tuple[ImageMessage, Keypoints2DArray] | None) -> None:
        counters = self._node.diagnostics.counters
        counters['stamps_went_back'] = self._pairing.rewinds
        counters['keypoints_without_image'] = self._pairing.lost
        if pair is None or not pair[1].people:
            return
        if self._companions.is_waiting and not self._node.count_publishers(
                self._node.resolve_topic_name('smpl')):
            self._take(self._companions.end())
        sight = Sight(*pair)
        self._take(self._companions.add_frame(sight.header.stamp, sight))

    def _take(self, ready: list[tuple[Sight, SmplArray | None]]) -> None:
        for sight, bodies in ready:
            self.newest = replace(sight, bodies=bodies)
            self._node.diagnostics.counters['frames_processed'] += 1


class PeopleReader:
    """Finds people of a frame by their track ids; loads the bodies of both layouts."""

    def __init__(self, body_model: str, whole_body_model: str) -> None:
        """Raise BodyError when a model cannot be loaded."""
        self._bodies: dict[int, SkinnedModel] = {
            SmplArray.LAYOUT_SMPL: load_body(body_model),
            SmplArray.LAYOUT_SMPLX: load_whole_body(whole_body_model)}
        self._joints = {layout: BodyJoints(body) for layout, body in self._bodies.items()}

    def find(self, sight: Sight, track_id: str, topic: str) -> Seen:
        """
        Find the person with a track id, or the largest one when it is empty.

        topic  of the bodies, for messages

        Raises NodeError or PerceptionError when nobody has it, or a message cannot be read.
        """
        if sight.keypoints.joint_set != Keypoints2DArray.JOINT_SET_COCO17:
            raise NodeError(
                f'keypoints have the joint set {sight.keypoints.joint_set}; expected COCO17')
        person = _chosen(keypoints_from_message(sight.keypoints), track_id)
        joints = Joints.from_coco17(np.column_stack([person.keypoints, person.confidence]))
        body = self._body_of(sight.bodies, person, topic)
        if body is None:
            return Seen(person.track_id, joints)
        camera = camera_from_message(sight.bodies)
        # Joints of recovered bodies are nearer to the truth than keypoints of the shipped engine.
        own = self._joints[sight.bodies.layout].of(body, camera)
        return Seen(person.track_id, completed(own, joints), body, camera)

    def _body_of(
            self, message: SmplArray | None, person: PersonKeypoints, topic: str) -> Person | None:
        if message is None:
            return None
        if message.layout not in self._bodies:
            raise NodeError(
                f'layout on {topic} is {message.layout}; expected LAYOUT_SMPL or LAYOUT_SMPLX')
        check_body(message, self._bodies[message.layout], topic)
        for body in people_from_message(message):
            if body.track_id == person.track_id and np.array_equal(body.box, person.box):
                return body
        return None


def _chosen(people: list[PersonKeypoints], track_id: str) -> PersonKeypoints:
    if not track_id:
        return max(people, key=lambda person: _area(person.box))
    for person in people:
        if person.track_id == track_id:
            return person
    known = ', '.join(person.track_id or 'somebody without a track id' for person in people)
    raise NodeError(f'nobody has the track id {track_id!r}; the newest frame shows {known}')


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
