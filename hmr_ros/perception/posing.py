# SPDX-License-Identifier: Apache-2.0
"""What poses the bodies of people, in the layouts of body models."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from hmr_ros.perception.person import Person
from hmr_ros.perception.rotations import axis_angle_to_matrix


def smpl_pose(people: Sequence[Person]) -> tuple[np.ndarray, np.ndarray]:
    """Rotations `(N, 24, 3, 3)` and shape coefficients `(N, 10)` of N people, one or more."""
    rotmats = axis_angle_to_matrix(np.stack([person.pose for person in people]))
    return rotmats, np.stack([person.betas for person in people])


def whole_body_pose(people: Sequence[Person]) -> tuple[np.ndarray, np.ndarray]:
    """
    Rotations `(N, 55, 3, 3)`, and shape and expression coefficients `(N, 20)`, float32.

    The N people, one or more, have hands and faces; their eyes look ahead.
    """
    pose = np.zeros((len(people), 55, 3), np.float32)
    for row, person in zip(pose, people):
        row[:22], row[22] = person.pose[:22], person.hands_and_face.jaw_pose
        row[25:] = person.hands_and_face.hand_pose.reshape(30, 3)
    coefficients = [np.concatenate([p.betas, p.hands_and_face.expression]) for p in people]
    return axis_angle_to_matrix(pose), np.stack(coefficients)
