# SPDX-License-Identifier: Apache-2.0
"""
Builds the open whole body: the open body with fingers, jaw and expressions, in SMPL-X layout.

Vertices, faces and shape coefficients are those of the open body, so that both agree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from hmr_ros.body.build import (
    bones_of, fit_joint_regressor, FITTED, Layout, merge_weights, rest_bodies, SMPL)
from hmr_ros.body.build_face import contour, expression_space, Face, landmarks, load_face
from hmr_ros.body.build_rig import load_rig, Rig
from hmr_ros.body.coco import face_vertices
from hmr_ros.body.loading import load_body, OPEN_BODY
from hmr_ros.body.model import BodyModel
from hmr_ros.body.whole_body_joints import (
    BODY_JOINTS, CONTOUR_VIEWS, FINGERS, HEAD, JAW, JOINTS, LEFT_EYE, LEFT_HAND, LEFT_WRIST,
    MIRROR, PARENTS, RIGHT_EYE)

#: number of each finger in the source's rig.
_RIG_FINGER = {'thumb': 1, 'index': 2, 'middle': 3, 'ring': 4, 'pinky': 5}
_FINGER_BONES = {
    LEFT_HAND + 3 * row + i: f'finger{_RIG_FINGER[finger]}-{i + 1}.L'
    for row, finger in enumerate(FINGERS) for i in range(3)}
SMPLX = Layout(
    PARENTS, MIRROR[:JOINTS],
    {**{joint: bone for joint, bone in SMPL.joint_bones.items() if joint < BODY_JOINTS},
     LEFT_EYE: 'eye.L', **_FINGER_BONES},
    {'toe': 10, 'metacarpal': LEFT_WRIST})
#: flexion of the three joints of each finger when a hand hangs at ease, degrees.
AT_EASE = {'index': (14, 20, 10), 'middle': (18, 24, 12), 'pinky': (24, 28, 14),
           'ring': (21, 27, 13), 'thumb': (4, 8, 12)}


def build_whole_body() -> dict[str, np.ndarray]:
    """Build all arrays of the open whole body file, names and layout of SMPL-X."""
    rig, coefficients = load_rig()
    with np.load(OPEN_BODY) as file:
        open_body = {name: file[name] for name in file.files}
    body, source = load_body(), open_body['source_vertices']
    face = load_face(source)
    weights = _weights(rig, face, source)
    regressor = _regressor(rig, coefficients[:FITTED], face, source, weights)
    # What the two bodies share is the same to the last bit.
    regressor[:BODY_JOINTS] = body.J_regressor[:BODY_JOINTS]
    _, mirror = cKDTree(body.v_template).query(body.v_template * [-1, 1, 1])
    expression = expression_space(face.actions, mirror)
    shapedirs = np.concatenate([body.shapedirs, expression], axis=2)
    joints = regressor @ body.v_template
    return {
        **{name: open_body[name] for name in (
            'v_template', 'f', 'source_vertices', 'leaf_vertices', 'marker_vertices')},
        'shapedirs': shapedirs.astype(np.float32), 'J_regressor': regressor.astype(np.float32),
        'weights': weights.astype(np.float32),
        # The source skins without pose correctives; readers of the format expect the array.
        'posedirs': np.zeros((*body.v_template.shape, 9 * (JOINTS - 1)), np.int8),
        'kintree_table': np.stack([np.where(PARENTS < 0, 2**32 - 1, PARENTS),
                                   np.arange(JOINTS)]).astype(np.uint32),
        'named_vertices': _named_vertices(body, rig.weights[source], rig, weights, joints, mirror),
        **_hands(joints), **_face_points(body, joints)}


def _weights(rig: Rig, face: Face, source: np.ndarray) -> np.ndarray:
    """Skinning weights `(V, 55)`; the eye balls were dropped, so nothing follows the eyes."""
    weights = merge_weights(rig, SMPLX)[source]
    weights[:, HEAD] += weights[:, LEFT_EYE] + weights[:, RIGHT_EYE]
    weights[:, [LEFT_EYE, RIGHT_EYE]] = 0
    weights[:, JAW] = np.minimum(face.jaw, weights[:, HEAD])
    weights[:, HEAD] -= weights[:, JAW]
    return weights


def _regressor(
        rig: Rig, coefficients: np.ndarray, face: Face, source: np.ndarray,
        weights: np.ndarray) -> np.ndarray:
    bodies, heads = rest_bodies(rig, coefficients, source)
    bones = bones_of(rig.labels, SMPLX)
    joints = np.zeros((len(bodies), JOINTS, 3))
    for joint, bone in bones.items():
        joints[:, joint] = heads[:, bone]
    joints[:, JAW] = joints[:, HEAD] + face.jaw_heads[:len(bodies)]
    return fit_joint_regressor(bodies, joints, weights, SMPLX)


def _named_vertices(
        body: BodyModel, bone_weights: np.ndarray, rig: Rig, weights: np.ndarray,
        joints: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Nose, eyes, ears, toes, heels and finger tips: `(21,)` int32, order of NAMED_VERTICES."""
    nose, left_eye, right_eye, left_ear, right_ear = face_vertices(body)
    strongest, place = weights.argmax(1), body.v_template
    tips = []
    for finger in ('thumb', 'index', 'middle', 'ring', 'pinky'):
        last = LEFT_HAND + 3 * FINGERS.index(finger) + 2
        reach = (place - joints[last]) @ (joints[last] - joints[last - 1])
        tips.append(np.where(strongest == last, reach, -np.inf).argmax())
    toes = []
    for number in (1, 5):
        bones = [name.startswith(f'toe{number}') and name.endswith('.L') for name in rig.labels]
        toes.append(np.where(bone_weights[:, bones].sum(1) > 0.5, place[:, 2], -np.inf).argmax())
    low = (strongest == 7) & (place[:, 1] < 0.5 * (joints[7, 1] + place[:, 1].min()))
    left = [*toes, np.where(low, -place[:, 2], -np.inf).argmax()]
    return np.array([nose, right_eye, left_eye, right_ear, left_ear, *left, *mirror[left],
                     *tips, *mirror[tips]], np.int32)


def _hands(joints: np.ndarray) -> dict[str, np.ndarray]:
    """Mean hands, at ease, and components that are just the 45 numbers of a hand."""
    mean = np.zeros((15, 3))
    palm = np.array([0.0, -1.0, 0.0])
    for row, finger in enumerate(FINGERS):
        first = LEFT_HAND + 3 * row
        along = joints[first + 2] - joints[first]
        # A thumb closes over the palm, so it turns about the palm's normal as well.
        axis = np.cross(along, palm if finger != 'thumb' else palm + [0.0, 0.0, -1.0])
        axis /= np.linalg.norm(axis)
        mean[3 * row:3 * row + 3] = np.radians(AT_EASE[finger])[:, None] * axis
    right = mean * [1, -1, -1]
    eye = np.eye(45, dtype=np.float32)
    return {'hands_meanl': mean.ravel().astype(np.float32),
            'hands_meanr': right.ravel().astype(np.float32),
            'hands_componentsl': eye, 'hands_componentsr': eye}


def _face_points(body: BodyModel, joints: np.ndarray) -> dict[str, np.ndarray]:
    """Landmarks, and a contour that is the line of the jaw however the neck turns."""
    between = 0.5 * (joints[LEFT_EYE] + joints[RIGHT_EYE])
    faces, shares = landmarks(body.v_template, body.faces, between)
    edge, edge_shares = contour(body.v_template, body.faces, between)
    return {
        'lmk_faces_idx': faces.astype(np.int64), 'lmk_bary_coords': shares.astype(np.float32),
        'dynamic_lmk_faces_idx': np.tile(edge, (CONTOUR_VIEWS, 1)).astype(np.int64),
        'dynamic_lmk_bary_coords': np.tile(
            edge_shares, (CONTOUR_VIEWS, 1, 1)).astype(np.float32)}


def main(path: str | Path) -> None:
    """Build the open whole body and write it to `path` (.npz)."""
    np.savez_compressed(path, **build_whole_body())
