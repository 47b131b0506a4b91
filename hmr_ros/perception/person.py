# SPDX-License-Identifier: Apache-2.0
"""What travels from stage to stage: boxes and people."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class PersonBox:
    """
    One detected person.

    `box` is float32 `(4,)`: x0, y0, x1, y1 in pixels of the full image, x1 and y1 exclusive.
    `track_id` is empty until a tracker has named the person; `score` is 0 to 1.
    """

    box: np.ndarray
    score: float = 1.0
    track_id: str = ''


@dataclass(frozen=True)
class PersonKeypoints:
    """
    2D keypoints of one person; arrays float32, pixels of the full image.

    score       of the whole person, 0 to 1
    box         (4,)    x0, y0, x1, y1
    keypoints   (K, 2)  x right, y down; NaN where a keypoint was not found
    confidence  (K,)    0 to 1
    """

    track_id: str
    score: float
    box: np.ndarray
    keypoints: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class HandsAndFace:
    """
    What a whole-body network adds to a person; arrays float32, metres, axis-angle radians.

    hand_pose     (2, 15, 3)  rotations of left and right finger joints relative to their parents,
                              in SMPL-X's order; zeros for a flat hand
    jaw_pose      (3,)        rotation of the jaw relative to the head
    expression    (10,)       expression coefficients
    hand_joints3d (2, 20, 3)  thumb to little finger, knuckle to tip, optical frame of the image
    hand_joints2d (2, 20, 2)  pixels of the full image
    """

    hand_pose: np.ndarray
    jaw_pose: np.ndarray
    expression: np.ndarray
    hand_joints3d: np.ndarray
    hand_joints2d: np.ndarray


@dataclass(frozen=True)
class Person:
    """
    One person's body; arrays float32, metres, axis-angle radians, optical frame of the image.

    box              (4,)     x0, y0, x1, y1 in pixels of the full image
    crop_transform   (2, 3)   affine map from full-image pixels to crop pixels
    global_orient    (3,)     pelvis rotation, body axes to optical frame
    body_pose        (23, 3)  rotations of joints 1..23 relative to their parents
    betas            (10,)    shape coefficients
    transl           (3,)     vertices = skinned vertices + transl
    joints3d         (24, 3)  posed joints, transl included
    joints2d         (24, 2)  pixels of the full image
    joint_confidence (24,)    0 to 1
    feature          (D,)     the network's feature vector, D = 0 when not asked for
    hands_and_face            of whole-body networks, None of others
    """

    track_id: str
    score: float
    box: np.ndarray
    crop_transform: np.ndarray
    global_orient: np.ndarray
    body_pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    joints3d: np.ndarray
    joints2d: np.ndarray
    joint_confidence: np.ndarray
    feature: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    hands_and_face: HandsAndFace | None = None

    @property
    def pose(self) -> np.ndarray:
        """Return all rotations `(24, 3)`: global_orient, then body_pose."""
        return np.concatenate([self.global_orient[None], self.body_pose])
