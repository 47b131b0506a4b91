# SPDX-License-Identifier: Apache-2.0
"""Crops and decoding of whole-body networks, by an engine of bidrn (sheet, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Mapping, Sequence

import numpy as np

from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.body.whole_body_joints import SUPERVISED
from hmr_ros.perception import rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crop_reading import certainty_of, Placed
from hmr_ros.perception.crops import CropStyle, CropTransform, cut_bilinear, MARGIN
from hmr_ros.perception.mesh_recovery import BodyRecovery
from hmr_ros.perception.outputs import check_shapes
from hmr_ros.perception.person import HandsAndFace, Person, PersonBox

#: width of the network's picture as a share of its height.
ASPECT = 0.75
#: height in pixels of the virtual picture that the camera is told for, and its focal length.
VIRTUAL_HEIGHT, VIRTUAL_FOCAL = 256, 5000.0
#: nobody fills the virtual picture from nearer; metres.
_NEAREST_M = 1.0
#: the 24 joints of SMPL among the 55: hands are the knuckles of the middle fingers.
SMPL_ROWS = np.array([*range(22), 28, 43])
#: joints of left and right hand among the 144, thumb to little finger, knuckle to tip.
_HANDS = SUPERVISED[25:65].reshape(2, 20)
_OUTPUT_SHAPES = {
    'root': (6,), 'body_pose': (126,), 'left_hand': (90,), 'right_hand': (90,), 'jaw': (6,),
    'shape': (10,), 'expression': (10,), 'transl': (3,)}


@dataclass(frozen=True)
class WholeBodies:
    """
    Decoded whole bodies of N people; float32, metres, the optical frame of the image.

    rotmats       (N, 55, 3, 3)   pelvis to optical frame, then joints relative to parents
    betas         (N, 10)         shape;  expression (N, 10)
    transl        (N, 3)          vertices = skinned vertices + transl
    joints3d      (N, 55, 3)      transl included
    hand_joints3d (N, 2, 20, 3)   see HandsAndFace
    """

    rotmats: np.ndarray
    betas: np.ndarray
    expression: np.ndarray
    transl: np.ndarray
    joints3d: np.ndarray
    hand_joints3d: np.ndarray


def _around(box: np.ndarray, size: int) -> CropTransform:
    """Place a square crop whose middle columns are the box, grown to 3:4 and by a quarter."""
    x0, y0, x1, y1 = (float(value) for value in box)
    side = MARGIN * max(y1 - y0, (x1 - x0) / ASPECT)
    return CropTransform(0.5 * (x0 + x1), 0.5 * (y0 + y1), side, size)


#: how crops for this network are made.
CROPS = CropStyle(_around, cut_bilinear, ASPECT)


def usable(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Tell, bool `(N,)`, which people stand before the virtual camera."""
    return np.asarray(outputs['transl'])[:, 2] > _NEAREST_M


def decode(
        outputs: Mapping[str, np.ndarray], transforms: Sequence[CropTransform], camera: Camera,
        body: WholeBodyModel) -> WholeBodies:
    """
    Decode the outputs of N usable people.

    transforms the N crops; camera that of the full, rectified image
    """
    rotmats = body.rotations(pose_of(outputs))
    betas, expression = (np.asarray(outputs[name], np.float32) for name in ('shape', 'expression'))
    coefficients = np.concatenate([betas, expression], 1)
    joints, hands = joints_of(body, rotmats, coefficients)
    pelvis = placed(joints[:, 0] + outputs['transl'], transforms, camera)
    transl = (pelvis - joints[:, 0]).astype(np.float32)
    return WholeBodies(rotmats, betas, expression, transl, joints + transl[:, None],
                       hands + transl[:, None, None])


def joints_of(
        body: WholeBodyModel, rotmats: np.ndarray,
        coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Joints `(N, 55, 3)` and those of the hands with finger tips `(N, 2, 20, 3)`, not translated.

    rotmats (N, 55, 3, 3), coefficients (N, 20) of shape and expression
    """
    joints, _ = body.pose_joints(rotmats, coefficients)
    tips, _ = body.skin_few(body.named_vertices, rotmats, coefficients)
    return joints, np.concatenate([joints, tips], 1)[:, _HANDS]


def pose_of(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rotation vectors `(N, 53, 3)`: 22 of the body, 15 of each hand, jaw (sheet, section 1)."""
    names = ('root', 'body_pose', 'left_hand', 'right_hand', 'jaw')
    six = np.concatenate([np.asarray(outputs[name], np.float32) for name in names], 1)
    return rotations.matrix_to_axis_angle(rotations.matrix_from_6d(six.reshape(len(six), -1, 6)))


def placed(
        points: np.ndarray, transforms: Sequence[CropTransform], camera: Camera) -> np.ndarray:
    """
    Move points `(N, 3)` of the virtual cameras of N crops before the real camera, float64 metres.

    They keep their pixels, and bodies around them their size in the image; the tilt of the ray to
    people far from the image's centre is ignored.
    """
    centre_x, centre_y, side = np.array(
        [(t.center_x, t.center_y, t.side) for t in transforms], np.float64).reshape(-1, 3).T
    x, y, depth = np.asarray(points, np.float64).T
    focal = VIRTUAL_FOCAL * side / VIRTUAL_HEIGHT
    seen_x, seen_y = centre_x + focal * x / depth, centre_y + focal * y / depth
    real = depth * math.sqrt(camera.fx * camera.fy) / focal
    return np.stack([(seen_x - camera.cx) / camera.fx * real,
                     (seen_y - camera.cy) / camera.fy * real, real], 1)


class WholeBodyRecovery(BodyRecovery):
    """
    Recovers bodies with hands and faces by an engine of bidrn.

    The network says nothing of its confidence: it is 1.
    """

    style = CROPS
    _body: WholeBodyModel

    def _check(self, outputs: Mapping[str, np.ndarray]) -> None:
        check_shapes(outputs, _OUTPUT_SHAPES, 'bidrn')

    def _usable(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return super()._usable(outputs) & usable(outputs)

    def _people(
            self, outputs: Mapping[str, np.ndarray], used: Placed, camera: Camera) -> list[Person]:
        found = decode(outputs, [transform for _, transform in used], camera, self._body)
        pose = rotations.matrix_to_axis_angle(found.rotmats)
        return [_person(box, transform, camera, found, row, pose[row])
                for row, (box, transform) in enumerate(used)]


def _person(
        box: PersonBox, transform: CropTransform, camera: Camera, found: WholeBodies, row: int,
        pose: np.ndarray) -> Person:
    joints3d, hands = found.joints3d[row, SMPL_ROWS], found.hand_joints3d[row]
    return Person(
        track_id=box.track_id, score=float(certainty_of(box)),
        box=np.asarray(box.box, np.float32), crop_transform=transform.matrix,
        global_orient=pose[0], body_pose=np.concatenate([pose[1:22], np.zeros((2, 3), np.float32)]),
        betas=found.betas[row], transl=found.transl[row], joints3d=joints3d.astype(np.float32),
        joints2d=camera.project_ahead(joints3d), joint_confidence=np.ones(24, np.float32),
        hands_and_face=HandsAndFace(
            pose[25:].reshape(2, 15, 3), pose[22], found.expression[row],
            hands.astype(np.float32), camera.project_ahead(hands)))
