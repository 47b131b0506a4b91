# SPDX-License-Identifier: Apache-2.0
"""Node `keypoints`: images and person boxes in, 2D keypoints out."""

from __future__ import annotations

import sys

from hmr_ros.msg import Keypoints2DArray, PersonBoxArray
from hmr_ros.nodes.boxes_node import BoxesNode, ImageMessage
from hmr_ros.nodes.conversions import boxes_from_message, keypoints_to_message, pixels_of
from hmr_ros.nodes.lifecycle import run_nodes


class KeypointsNode(BoxesNode):
    """Publishes `keypoints` for every pair of `image` and `person_boxes` with the same stamp."""

    TABLE = 'keypoints'
    OUTPUT = (Keypoints2DArray, 'keypoints')

    def load(self) -> None:
        """Load the engine."""
        self.unload()
        self._engine, self._finder = self.open_finder()
        self.show_engine(self._engine)

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


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [KeypointsNode()], args)


if __name__ == '__main__':
    sys.exit(main())
