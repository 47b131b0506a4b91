# SPDX-License-Identifier: Apache-2.0
"""Where on the body a vertex is, in terms a tailor understands; computed once per body model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hmr_ros.body.coco import face_measures
from hmr_ros.body.model import BodyModel
from hmr_ros.training.synthetic.rasterizer import vertex_normals

#: columns of the attribute table the shader reads for each vertex.
ARM, ARM_AT, LEG, LEG_AT, HEAD, REST_X, REST_Y, REST_Z, KIND, SHEEN = range(10)
ATTRIBUTES = 10
_LEFT_ARM, _RIGHT_ARM = (16, 18, 20, 22), (17, 19, 21, 23)
_LEFT_LEG, _RIGHT_LEG = (1, 4, 7, 10), (2, 5, 8, 11)


@dataclass(frozen=True)
class Anatomy:
    """
    Per-vertex facts of a body at rest, float32.

    attributes (V, 10)  ARM, LEG, HEAD: skinning weight of that limb. ARM_AT: 0 shoulder, 1 elbow,
                        2 wrist, 3 fingertip. LEG_AT: 0 hip, 1 knee, 2 ankle, 3 toe. REST_*: place
                        in the mean rest body, metres from the pelvis. KIND: 0 for the body itself.
    parts      (V,)     uint8, joint of the strongest skinning weight
    face       (8,)     chin, mouth, nose, eye and brow heights, eye half distance, head centre z,
                        head half depth; metres from the pelvis
    joints     (29, 3)  rest joints and leaves, metres from the pelvis
    features   (6,)     float64: half width and half height of an eye, half width and half height
                        of the lips, all in shares of the height from chin to eyes; how much the
                        lips narrow towards their corners, 0 to 1; z behind which it is the inside
                        of the mouth, metres
    """

    attributes: np.ndarray
    parts: np.ndarray
    face: np.ndarray
    joints: np.ndarray
    features: np.ndarray


#: of a body whose face is known by its proportions only, with a mouth that stays shut.
FEATURES = np.float64([0.15, 0.07, 0.2, 0.055, 0.0, -9.0])


def _along(points: np.ndarray, chain: np.ndarray) -> np.ndarray:
    """Coordinate of each point on a polyline: 1.5 is the middle of the second piece."""
    best, place = np.full(len(points), np.inf), np.zeros(len(points))
    for i, (start, end) in enumerate(zip(chain[:-1], chain[1:])):
        axis = end - start
        t = (points - start) @ axis / (axis @ axis)
        free = np.clip(t, -0.3 if i == 0 else 0, 1.2 if i == len(chain) - 2 else 1)
        distance = np.linalg.norm(points - start - free[:, None] * axis, axis=1)
        closer = distance < best
        best[closer], place[closer] = distance[closer], i + free[closer]
    return place


def study(body: BodyModel) -> Anatomy:
    """Measure `body` at rest."""
    pelvis = body.joint_template[0]
    rest = (body.v_template - pelvis).astype(np.float64)
    joints = np.concatenate([body.joint_template, body.v_template[body.leaf_vertices]]) - pelvis
    table = np.zeros((len(rest), ATTRIBUTES))
    left = rest[:, 0] > 0
    for column, place, chains in (
            (ARM, ARM_AT, ((*_LEFT_ARM[:3], 25), (*_RIGHT_ARM[:3], 26))),
            (LEG, LEG_AT, ((*_LEFT_LEG[:3], 27), (*_RIGHT_LEG[:3], 28)))):
        owners = (_LEFT_ARM + _RIGHT_ARM) if column == ARM else (_LEFT_LEG + _RIGHT_LEG)
        table[:, column] = body.weights[:, owners].sum(axis=1)
        for side, chain in zip((left, ~left), chains):
            table[side, place] = _along(rest[side], joints[list(chain)])
    table[:, HEAD] = body.weights[:, [12, 15]].sum(axis=1)
    table[:, REST_X:REST_Z + 1] = rest
    return Anatomy(
        table.astype(np.float32), body.weights.argmax(axis=1).astype(np.uint8),
        face_measures(rest, body.weights[:, 15]), joints.astype(np.float32),
        FEATURES)


def rest_normals(body: BodyModel) -> np.ndarray:
    """Unit normals `(V, 3)` of the mean rest body."""
    return vertex_normals(np.ascontiguousarray(body.v_template, np.float32), body.faces)
