# SPDX-License-Identifier: Apache-2.0
"""Reads vision_msgs/Detection2DArray, what other detectors publish; imports nothing of ROS."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from hmr_ros.nodes.errors import NodeError
from hmr_ros.perception.person import PersonBox


@dataclass(frozen=True)
class FoundPeople:
    """
    What one message of another detector says about people.

    boxes    boxes in pixels of the full image; `track_id` is the detector's, or empty
    others   class ids of detections that are not people; '' stands for those without any class
    skipped  one sentence for each person whose box cannot be used
    """

    boxes: list[PersonBox]
    others: set[str]
    skipped: list[str]


def detection_array_type() -> type:
    """Return vision_msgs/Detection2DArray. Raises NodeError when vision_msgs is not installed."""
    try:
        from vision_msgs.msg import Detection2DArray
    except ImportError as error:
        raise NodeError(
            'the package vision_msgs is not installed, which has the messages on the topic '
            'detections; on ROS 2: apt install ros-$ROS_DISTRO-vision-msgs. Elsewhere publish '
            'hmr_ros/PersonBoxArray on person_boxes instead of using this node') from error
    return Detection2DArray


def people_from_detections(
        message: Any, person_class_ids: Collection[str], min_score: float) -> FoundPeople:
    """
    Return the people of a vision_msgs/Detection2DArray, or of anything with the same fields.

    A detection is what its best hypothesis says: a person when that one's class id is among
    `person_class_ids` and its score not below `min_score`. Rotated boxes and boxes without an
    area are skipped.
    """
    boxes, others, skipped = [], set(), []
    for index, detection in enumerate(message.detections):
        hypotheses = [result.hypothesis for result in detection.results]
        best = max(hypotheses, key=lambda hypothesis: hypothesis.score, default=None)
        if best is None or best.class_id not in person_class_ids:
            others.add(best.class_id if best else '')
        elif not best.score < min_score:
            problem = _problem_with(detection.bbox)
            if problem:
                skipped.append(f'detection {index}: {problem}')
            else:
                score = float(np.clip(best.score, 0, 1))
                boxes.append(PersonBox(_corners(detection.bbox), score, _track_id(detection.id)))
    return FoundPeople(boxes, others, skipped)


def _corners(bbox: Any) -> np.ndarray:
    """Return x0, y0, x1, y1 of a vision_msgs/BoundingBox2D, float32 `(4,)`."""
    x, y = bbox.center.position.x, bbox.center.position.y
    half_x, half_y = 0.5 * bbox.size_x, 0.5 * bbox.size_y
    with np.errstate(over='ignore'):
        return np.float32([x - half_x, y - half_y, x + half_x, y + half_y])


def _problem_with(bbox: Any) -> str | None:
    if bbox.center.theta != 0:
        return (f'bbox.center.theta is {bbox.center.theta:.3g}, expected 0: let the detector give '
                'boxes along the image axes')
    x0, y0, x1, y1 = corners = _corners(bbox)
    if not np.all(np.isfinite(corners)) or x1 <= x0 or y1 <= y0:
        return (f'bbox is {bbox.size_x:.6g} x {bbox.size_y:.6g} pixels at '
                f'{bbox.center.position.x:.6g}, {bbox.center.position.y:.6g}, expected finite '
                'numbers and an area: the detector fills the message wrongly')
    return None


def _track_id(given: str) -> str:
    # Ids name topics and frames, which must start with a letter; many trackers count in digits.
    starts_well = not given or given[0].isascii() and given[0].isalpha()
    return given if starts_well else f'p{given}'
