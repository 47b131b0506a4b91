# SPDX-License-Identifier: Apache-2.0
"""
COCO's keypoints on a body: the 17, and toes and heels.

Limbs are joints of the body. Nose, eyes and ears are vertices of the head, toes and heels of the
feet, found by geometry.
"""

from __future__ import annotations

import numpy as np

from hmr_ros.body.model import BodyModel

#: joints of the body that are COCO's limbs, in COCO's order behind the five of the face.
LIMBS = np.array([16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8])
_HEAD, _OF_HEAD = 15, 0.6
_LEFT_ANKLE, _LEFT_FOOT, _RIGHT_FOOT = 7, 10, (8, 11)
_MIRROR = np.array([-1, 1, 1])


def face_measures(vertices: np.ndarray, head: np.ndarray) -> np.ndarray:
    """
    Measure the face by the extent of the head and the usual proportions.

    vertices (V, 3) at rest, metres from the pelvis, head (V,) their skinning weights of the head.
    Returns float32 (8,): heights of chin, mouth, nose, eyes and brow, half the distance of the
    eyes, z of the head's centre, half its depth.
    """
    skull = vertices[head > _OF_HEAD]
    top, chin = skull[:, 1].max(), skull[:, 1].min()
    front = skull[skull[:, 2] > np.quantile(skull[:, 2], 0.6)]
    chin = max(chin, top - 1.35 * (skull[:, 2].max() - skull[:, 2].min()), front[:, 1].min())
    height = top - chin
    depth = 0.5 * (skull[:, 2].max() - skull[:, 2].min())
    centre = 0.5 * (skull[:, 2].max() + skull[:, 2].min())
    places = [chin + share * height for share in (0.0, 0.21, 0.36, 0.51, 0.60)]
    return np.float32([*places, 0.14 * height, centre, depth])


def face_vertices(body: BodyModel) -> np.ndarray:
    """Vertices `(5,)` of nose, left and right eye, left and right ear, the person's own sides."""
    rest = body.v_template - body.joint_template[0]
    weight = body.weights[:, _HEAD]
    head, face = np.flatnonzero(weight > _OF_HEAD), face_measures(rest.astype(np.float64), weight)
    height, half_distance, centre = face[3], face[5], face[6]
    front = head[rest[head, 2] > centre]
    middle = front[np.abs(rest[front, 0]) < 0.5 * half_distance]
    # Hair and brow of a bald template never reach as far as the tip of the nose.
    nose = middle[rest[middle, 2].argmax()]
    eye = front[np.linalg.norm(rest[front, :2] - (half_distance, height), axis=1).argmin()]
    ear = head[rest[head, 0].argmax()]
    return np.array([nose, eye, _mirrored(rest, head, eye), ear, _mirrored(rest, head, ear)])


def foot_vertices(body: BodyModel) -> np.ndarray:
    """Vertices `(6,)` of big toe, small toe and heel, of the left foot and then the right one."""
    rest = body.v_template - body.joint_template[0]
    strongest = body.weights.argmax(1)
    toes, ankle = np.flatnonzero(strongest == _LEFT_FOOT), np.flatnonzero(strongest == _LEFT_ANKLE)
    # The outer seventh of the toes' width is the small one.
    outer = toes[rest[toes, 0] > np.min(rest[toes, 0]) + 0.86 * np.ptp(rest[toes, 0])]
    middle = 0.5 * (body.joint_template[_LEFT_ANKLE, 1] + body.v_template[:, 1].min())
    low = ankle[body.v_template[ankle, 1] < middle]
    left = [body.leaf_vertices[3], outer[rest[outer, 2].argmax()], low[rest[low, 2].argmin()]]
    feet = np.flatnonzero(np.isin(strongest, _RIGHT_FOOT))
    return np.array([*left, *(_mirrored(rest, feet, vertex) for vertex in left)])


def _mirrored(rest: np.ndarray, part: np.ndarray, vertex: int) -> int:
    """Vertex of `part` nearest to the mirror image of another."""
    return part[np.linalg.norm(rest[part] - _MIRROR * rest[vertex], axis=1).argmin()]
