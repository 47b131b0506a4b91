# SPDX-License-Identifier: Apache-2.0
"""The digitizer's joints of somebody whose body was recovered: what 2D keypoints lack."""

from __future__ import annotations

import numpy as np

from hmr_ros.body.coco import face_vertices, foot_vertices, LIMBS
from hmr_ros.body.model import BodyModel
from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.perception.camera import Camera, NEAREST_M
from hmr_ros.perception.digitizer.joints import Joints, JOINTS
from hmr_ros.perception.person import Person
from hmr_ros.perception.posing import smpl_pose, whole_body_pose

_FACE, _LIMBS, _FEET, _FINGERS = slice(5), slice(5, 17), slice(17, 23), slice(23, 31)
#: middle fingers of JOINTS; a body without hands has them as its joints 22 and 23.
_MIDDLE_FINGERS = (24, 28)
#: of a whole body's twenty joints per hand, where the fingers without the thumb begin.
_KNUCKLES = (4, 8, 12, 16)
#: of NAMED_VERTICES: nose, eyes and ears, left first, then both feet.
_OF_NAMED = (0, 2, 1, 4, 3, *range(5, 11))


class BodyJoints:
    """Finds the digitizer's joints on people of one body."""

    def __init__(self, body: BodyModel | WholeBodyModel) -> None:
        self._body = body
        if isinstance(body, WholeBodyModel):
            self._pose, self._vertices = whole_body_pose, body.named_vertices[list(_OF_NAMED)]
        else:
            self._pose = smpl_pose
            self._vertices = np.concatenate([face_vertices(body), foot_vertices(body)])

    def of(self, person: Person, camera: Camera) -> Joints:
        """
        Project the joints of a person of this body: pixels of the camera's image.

        person  in the camera's optical frame

        Of a body without hands only the middle fingers are known. What is behind the camera is
        missing.
        """
        points = np.full((len(JOINTS), 3), np.nan)
        surface, _ = self._body.skin_few(self._vertices, *self._pose([person]))
        points[_FACE], points[_FEET] = np.split(surface[0] + person.transl, [_FACE.stop])
        points[_LIMBS] = person.joints3d[LIMBS]
        if person.hands_and_face is None:
            points[list(_MIDDLE_FINGERS)] = person.joints3d[22:24]
        else:
            hands = person.hands_and_face.hand_joints3d
            points[_FINGERS] = hands[:, list(_KNUCKLES)].reshape(-1, 3)
        points[~(points[:, 2] > NEAREST_M)] = np.nan
        return Joints(camera.project(points))
