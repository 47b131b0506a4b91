# SPDX-License-Identifier: Apache-2.0
"""Node `mesh_recovery`: images and person boxes in, SMPL-format people out."""

from __future__ import annotations

from dataclasses import replace
import sys
import time
from typing import Any

import numpy as np
from std_msgs.msg import Header

from hmr_ros.body import load_body, load_whole_body
from hmr_ros.body.model import SkinnedModel
from hmr_ros.msg import PersonBoxArray, SmplArray
from hmr_ros.nodes.boxes_node import BoxesNode, ImageMessage
from hmr_ros.nodes.camera_input import CameraInput
from hmr_ros.nodes.conversions import (
    boxes_from_message, camera_to_message, person_to_message, pixels_of)
from hmr_ros.nodes.engine_node import threads_for
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import run_nodes
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.keypoints2d import KeypointFinder
from hmr_ros.perception.person import Person, PersonBox
from hmr_ros.perception.recoveries import NearFarRecovery, recovery_for, whole_bodies
from hmr_ros.perception.refinement import Refiner
from hmr_ros.runtime import Engine, EngineError

NO_FEATURE = np.zeros(0, np.float32)


class MeshRecoveryNode(BoxesNode):
    """Publishes `smpl` for every pair of `image` and `person_boxes` with the same stamp."""

    TABLE = 'mesh_recovery'
    OUTPUT = (SmplArray, 'smpl')

    def __init__(self, **node_arguments: Any) -> None:
        """Declare parameters. Raises NodeError when one of them is not allowed."""
        super().__init__(**node_arguments)
        self._camera_input = CameraInput(self)
        self._finder: KeypointFinder | None = None
        self._refiner: Refiner | None = None

    def load(self) -> None:
        """Load one engine or two, their body model, and the engine of keypoints to refine by."""
        self.unload()
        self._load_engines()
        if self.parameters['refine'] == 'keypoints':
            self._load_refiner()
        facts = {'engine': 'name', 'backend': 'backend', 'precision': 'precision',
                 'engine_sha256': 'sha256'}
        self.diagnostics.facts.update(
            body_model=self._body.name,
            **{fact: self._of_engines(name) for fact, name in facts.items()})
        self.get_logger().info(f'body model {self._body.name}')

    def subscribe(self) -> None:
        """Listen to images, boxes, and the calibration of the camera."""
        self._camera_input.listen()
        super().subscribe()

    def process(self, item: tuple[ImageMessage, PersonBoxArray]) -> None:
        """Recover the people of one frame and publish them."""
        image, boxes = item
        if isinstance(self._recovery, NearFarRecovery):
            self._recovery.far_below = self.parameters['engine.far_below_px']
        pixels, order = pixels_of(image)
        height, width = pixels.shape[:2]
        camera = self._camera_input.camera_for(width, height)
        found = boxes_from_message(boxes)
        people = self._recovery.recover(pixels, order, camera, found)
        self.note_record(self._recovery, 'decode_ik')
        if self._refiner is not None and people:
            people = self._refined(people, pixels, order, camera, found)
        if isinstance(self._recovery, NearFarRecovery):
            self.diagnostics.facts['far_persons'] = str(self._recovery.far_people)
        self.publish_people(self._message(image.header, camera, people))

    def farewell(self) -> None:
        """Publish that nobody is there any more."""
        self._publisher.publish(self._message(self._last_header, None, []))

    def _load_engines(self) -> None:
        names = [self.parameters[f'engine.{which}'] or self.parameters['engine']
                 for which in ('near', 'far')]
        max_people, threads = self.parameters['max_people'], threads_for(self.parameters['threads'])
        self._body_engines: list[Engine] = [
            self.open_engine(name, max_people, threads) for name in dict.fromkeys(names)]
        self._load_body()
        recoveries = [recovery_for(engine, self._body, max_people)
                      for engine in self._body_engines]
        self._recovery = recoveries[0] if len(recoveries) == 1 else NearFarRecovery(
            *recoveries, self.parameters['engine.far_below_px'], max_people)

    def _load_body(self) -> None:
        """Load the body model of the kind that the engines recover."""
        self._layout = SmplArray.LAYOUT_SMPL
        self._body: SkinnedModel
        if whole_bodies(self._body_engines):
            self._layout = SmplArray.LAYOUT_SMPLX
            self._body = load_whole_body(self.parameters['whole_body_model'])
        else:
            self._body = load_body(self.parameters['body_model'])

    def _load_refiner(self) -> None:
        if self._layout != SmplArray.LAYOUT_SMPL:
            raise NodeError(
                f'parameter refine is keypoints, but {self._of_engines("name")} recovers hands and '
                'faces too, which are not refined; set refine to none')
        engine, self._finder = self.open_finder()
        self._refiner = Refiner(self._body)
        self.diagnostics.facts.update(
            keypoint_engine=engine.name, keypoint_engine_sha256=engine.sha256)

    def _refined(
            self, people: list[Person], image: np.ndarray, color_order: str, camera: Camera,
            boxes: list[PersonBox]) -> list[Person]:
        """Bring people nearer to their keypoints; as they were where none can be found."""
        start, counters = time.perf_counter(), self.diagnostics.counters
        try:
            keypoints = self._finder.find(
                image, color_order, boxes, self.parameters['min_keypoint_score'])
        except (PerceptionError, EngineError) as error:
            counters['frames_unrefined'] += 1
            self.complain('refine', f'people are published unrefined: {error}')
            return people
        found = time.perf_counter()
        people = self._refiner.refine(people, keypoints, camera)
        self.diagnostics.add_latency('keypoints', 1e3 * (found - start))
        self.diagnostics.add_latency('refine', 1e3 * (time.perf_counter() - found))
        counters['people_refined'] = self._refiner.refined
        counters['people_unrefined'] = self._refiner.unrefined
        return people

    def _of_engines(self, fact: str) -> str:
        """Say something of each engine of bodies, the near one first; of a single one as it is."""
        return ','.join(str(getattr(engine, fact)) for engine in self._body_engines)

    def _message(
            self, header: Header, camera: Camera | None, people: list[Person]) -> SmplArray:
        message = SmplArray(
            header=header, layout=self._layout, body_model=self._body.name,
            body_model_sha256=self._body.sha256, engine=self._of_engines('name'),
            engine_sha256=self._of_engines('sha256'))
        if camera is not None:
            camera_to_message(camera, message)
        if not self.parameters['publish_features']:
            people = [replace(person, feature=NO_FEATURE) for person in people]
        message.people = [person_to_message(person) for person in people]
        return message


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [MeshRecoveryNode()], args)


if __name__ == '__main__':
    sys.exit(main())
