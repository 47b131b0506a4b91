# SPDX-License-Identifier: Apache-2.0
"""Node `keypoints`: images and person boxes in, 2D keypoints out."""

from __future__ import annotations

import sys

from hmr_ros.msg import Keypoints2DArray, PersonBoxArray
from hmr_ros.nodes.boxes_node import BoxesNode, ImageMessage
from hmr_ros.nodes.conversions import boxes_from_message, keypoints_to_message, pixels_of
from hmr_ros.nodes.engine_node import threads_for
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import run_nodes
from hmr_ros.perception.keypoints2d import KeypointFinder, settings_of
from hmr_ros.runtime import Engine, EngineError, resolve_engine

HOW_TO_GET_ONE = (
    'No engine of mgil is shipped: train one (hmr train mgil CONFIG --out DIR) and export it (hmr '
    'export mgil DIR/weights.safetensors), or set parameter keypoint_engine to the path of an ONNX '
    'file of your own with the outputs simcc_x and simcc_y')


class KeypointsNode(BoxesNode):
    """Publishes `keypoints` for every pair of `image` and `person_boxes` with the same stamp."""

    TABLE = 'keypoints'
    OUTPUT = (Keypoints2DArray, 'keypoints')

    def load(self) -> None:
        """Load the engine."""
        self.unload()
        self._engine = self._open(self.parameters['keypoint_engine'])
        self._finder = KeypointFinder(self._engine, settings_of(
            self._engine, self.parameters['max_people'], self.parameters['score_mode']))
        self.diagnostics.facts.update(
            engine=self._engine.name, backend=self._engine.backend,
            precision=self._engine.precision, engine_sha256=self._engine.sha256)

    def process(self, item: tuple[ImageMessage, PersonBoxArray]) -> None:
        """Find the keypoints of the people of one frame and publish them."""
        image, boxes = item
        pixels, order = pixels_of(image)
        people = self._finder.find(
            pixels, order, boxes_from_message(boxes), self.parameters['min_keypoint_score'])
        self.note_record(self._finder, 'decode')
        height, width = pixels.shape[:2]
        self.publish_people(
            keypoints_to_message(people, image.header, (width, height), self._engine))

    def farewell(self) -> None:
        """Publish that nobody is there any more."""
        self._publisher.publish(
            keypoints_to_message([], self._last_header, (0, 0), self._engine))

    def _open(self, name: str) -> Engine:
        """Open an engine; NodeError says how to get one when the manifest has no such name."""
        try:
            return self.open_engine(
                name, self.parameters['max_people'], threads_for(self.parameters['threads']))
        except EngineError as error:
            if _is_known(name):
                raise
            raise NodeError(f'{error}. {HOW_TO_GET_ONE}') from error


def _is_known(name: str) -> bool:
    """Tell whether the manifest has an engine of that name; paths are known."""
    try:
        resolve_engine(name)
    except EngineError:
        return False
    return True


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [KeypointsNode()], args)


if __name__ == '__main__':
    sys.exit(main())
