# SPDX-License-Identifier: Apache-2.0
"""The 31 joints that body parts are found by, and where they come from (sheet, section 1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hmr_ros.perception.errors import PerceptionError

#: sides are the subject's own.
JOINTS = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip',
    'left_knee', 'right_knee', 'left_ankle', 'right_ankle', 'left_big_toe', 'left_small_toe',
    'left_heel', 'right_big_toe', 'right_small_toe', 'right_heel', 'left_index', 'left_middle',
    'left_ring', 'left_little', 'right_index', 'right_middle', 'right_ring', 'right_little')
#: of OpenPose's BODY_25, and its hands: the second knuckles.
_BODY_25 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11, 19, 20, 21, 22, 23, 24)
_SECOND_KNUCKLES = (6, 10, 14, 18)
#: of COCO's 17, which come first.
_COCO = 17
#: of COCO-WholeBody's 133: the body, then the first knuckles.
_WHOLE_BODY = (*range(23), 96, 100, 104, 108, 117, 121, 125, 129)


@dataclass(frozen=True)
class Joints:
    """
    Joints of one person.

    points  (31, 2) float64 pixels, in the order of JOINTS; whatever is where one is missing
    found   (31,) bool; points that are not finite are never found
    """

    points: np.ndarray
    found: np.ndarray = field(default_factory=lambda: np.ones(len(JOINTS), bool))

    def __post_init__(self) -> None:
        points, found = np.array(self.points, np.float64), np.array(self.found, bool)
        if points.shape != (len(JOINTS), 2) or found.shape != (len(JOINTS),):
            raise PerceptionError(
                f'joints have points of shape {points.shape} and found of {found.shape}; expected '
                f'{(len(JOINTS), 2)} and {(len(JOINTS),)}')
        object.__setattr__(self, 'points', points)
        object.__setattr__(self, 'found', found & np.isfinite(points).all(1))

    @classmethod
    def from_openpose(
            cls, body: np.ndarray, left_hand: np.ndarray, right_hand: np.ndarray) -> Joints:
        """Take joints of BODY_25 `(25, 3)` and of hands `(21, 3)`: x, y, confidence, 0 if none."""
        _expect('BODY_25', body, 25)
        for hand in (left_hand, right_hand):
            _expect('an OpenPose hand', hand, 21)
        rows = np.concatenate([
            np.asarray(body)[list(_BODY_25)],
            *(np.asarray(hand)[list(_SECOND_KNUCKLES)] for hand in (left_hand, right_hand))])
        return cls(rows[:, :2], rows[:, 2] > 0)

    @classmethod
    def from_coco17(cls, keypoints: np.ndarray) -> Joints:
        """Take COCO's keypoints `(17, 3)`: x, y, confidence, 0 if none; feet and hands miss."""
        _expect('COCO', keypoints, _COCO)
        rows = np.zeros((len(JOINTS), 3))
        rows[:_COCO] = keypoints
        return cls(rows[:, :2], rows[:, 2] > 0)

    @classmethod
    def from_whole_body(cls, keypoints: np.ndarray) -> Joints:
        """Take joints of COCO-WholeBody `(133, 3)`: x, y, confidence, 0 where there is none."""
        _expect('COCO-WholeBody', keypoints, 133)
        rows = np.asarray(keypoints)[list(_WHOLE_BODY)]
        return cls(rows[:, :2], rows[:, 2] > 0)


def completed(joints: Joints, extra: Joints) -> Joints:
    """Fill in joints that were not found from `extra`, of the same person in the same image."""
    return Joints(np.where(joints.found[:, None], joints.points, extra.points),
                  joints.found | extra.found)


def _expect(source: str, rows: np.ndarray, count: int) -> None:
    if np.shape(rows) != (count, 3):
        raise PerceptionError(
            f'keypoints of {source} have shape {np.shape(rows)}; expected {(count, 3)}: x, y, '
            'confidence')
