# SPDX-License-Identifier: Apache-2.0
"""Whole bodies steady over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.one_euro import ROTATIONS, VECTORS
from hmr_ros.perception.person import Person
from hmr_ros.perception.posing import whole_body_pose
from hmr_ros.perception.rotations import axis_angle_to_matrix, matrix_to_quaternion
from hmr_ros.perception.smoothing import Measured, OneEuroSmoother, Smoothed
from hmr_ros.perception.whole_body import joints_of, SMPL_ROWS


class WholeBodySmoother(OneEuroSmoother):
    """Filters fingers, jaw and expression as OneEuroSmoother filters the rest."""

    _body: WholeBodyModel

    def _fits(self, person: Person) -> bool:
        return person.hands_and_face is not None

    def _measured(self, person: Person) -> Measured:
        rotmats, _ = whole_body_pose([person])
        turns = matrix_to_quaternion(rotmats[0].astype(np.float64))
        return ((turns, self.settings.rotation, ROTATIONS),
                (person.betas, self.settings.shape, VECTORS),
                (person.hands_and_face.expression, self.settings.expression, VECTORS))

    def _rebuilt(
            self, people: Sequence[Person], bodies: Sequence[Smoothed],
            camera: Camera | None) -> list[Person]:
        if not people:
            return []
        rotmats = axis_angle_to_matrix(np.stack([body.pose for body in bodies]))
        coefficients = np.stack([body.betas for body in bodies])
        joints, hands = joints_of(self._body, rotmats, coefficients)
        pelvis = np.stack([body.pelvis.smoothed for body in bodies]).astype(np.float32)
        transl = pelvis - joints[:, 0]
        return [_moved(*row, camera) for row in zip(
            people, bodies, transl, joints + transl[:, None], hands + transl[:, None, None])]


def _moved(
        person: Person, body: Smoothed, transl: np.ndarray, joints: np.ndarray,
        hands: np.ndarray, camera: Camera) -> Person:
    """Give a person a smoothed body and its joints `(55, 3)` and `(2, 20, 3)`."""
    joints3d = joints[SMPL_ROWS]
    return replace(
        person, global_orient=body.pose[0], betas=body.betas[:10], transl=transl,
        body_pose=np.concatenate([body.pose[1:22], np.zeros((2, 3), np.float32)]),
        joints3d=joints3d, joints2d=camera.project_ahead(joints3d),
        hands_and_face=replace(
            person.hands_and_face, hand_pose=body.pose[25:].reshape(2, 15, 3),
            jaw_pose=body.pose[22], expression=body.betas[10:], hand_joints3d=hands,
            hand_joints2d=camera.project_ahead(hands)))
