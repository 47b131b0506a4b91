# SPDX-License-Identifier: Apache-2.0
"""
Jaw, expressions and landmarks of the open whole body.

The source has a jaw bone in its fullest rig and 52 facial actions (the Face Units of MakeHuman,
CC0). Ten pairs of opposite actions are the coefficients of expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hmr_ros.body.build_rig import coefficients_of, load_source, rig_of, skin_mask
from hmr_ros.body.build_t_pose import to_smpl_axes
from hmr_ros.body.model import BodyError

#: what one unit of each coefficient of expression does, in shares of whole actions: 2 units of most
#: are an action at its strongest. The first seven are symmetric; the last three act on
#: the left and oppositely on the right.
UNITS: dict[str, dict[str, float]] = {
    'smile': {'mouthSmile': 0.5, 'mouthFrown': -0.3},
    'lips apart': {'mouthUpperUp': 0.5, 'mouthLowerDown': 0.5},
    'pucker': {'mouthPucker': 0.5, 'mouthStretch': -0.4},
    'brows up': {'browInnerUp': 0.5, 'browOuterUp': 0.5, 'browDown': -0.5},
    'eyes closed': {'eyeBlink': 0.5},
    'squint': {'cheekSquint': 0.5, 'eyeSquint': 0.5, 'noseSneer': 0.4},
    'cheeks puffed': {'cheekPuff': 0.5},
    'mouth to the left': {'mouthLeft': 0.5, 'mouthRight': -0.5},
    'left smile': {'mouthSmile': 0.3, 'mouthFrown': -0.15},
    'left eye closed': {'eyeBlink': 0.5}}
SYMMETRIC = 7

_MM = 1e-3
#: landmarks of the left half and the middle, (left, up) in mm from between the eyes.
_BROW = ((9, 9), (18, 11), (28, 12), (38, 10), (46, 5))
_BRIDGE = ((0, 0), (0, -11), (0, -22), (0, -33))
_NOSTRILS = ((0, -47), (7, -46), (14, -44))
_EYE = ((18.5, -3.4), (27, 4), (36, 4), (44.5, -0.5), (36, -6), (27, -6))
_UPPER_LIP = ((0, -61.7), (6, -61), (15, -64.5), (26, -69))
_LOWER_LIP = ((17, -76), (9, -79.5), (0, -81))
_INNER_LIP = ((22, -70.2), (9, -68.4), (0, -68), (9, -72.5), (0, -72.8))
_JAW_LINE = ((0, -98), (13, -96), (25, -89), (35, -77), (43, -61), (49, -44), (54, -27), (60, -12),
             (63, 2))


@dataclass(frozen=True)
class Face:
    """
    What the source's fullest rig adds to the skin.

    actions     facial actions by name, offsets (V, 3) in SMPL's axes
    jaw         (V,)    share of the skinning weights that follow the jaw
    jaw_heads   (S, 3)  jaw joint of the sampled adults from the head joint, SMPL's axes
    """

    actions: dict[str, np.ndarray]
    jaw: np.ndarray
    jaw_heads: np.ndarray


def load_face(source: np.ndarray) -> Face:
    """Load the face of the `source` vertices `(V,)` of the skin."""
    model = load_source(rig='makehuman', facial_actions='all')
    rig = rig_of(model)
    kept = np.flatnonzero(skin_mask(rig))[source]
    names = model.facial_action_labels
    offsets = to_smpl_axes(rig.blendshapes[-len(names):, kept])
    jaw, head = rig.labels.index('jaw'), rig.labels.index('head')
    below = [jaw in _ancestry(j, rig.parents) for j in range(len(rig.labels))]
    coefficients = coefficients_of(model)
    bones = [rig.heads[j] + np.tensordot(coefficients, rig.head_blendshapes[:, j], 1)
             for j in (jaw, head)]
    return Face(dict(zip(names, offsets)), rig.weights[kept][:, below].sum(1),
                to_smpl_axes(bones[0] - bones[1]))


def _ancestry(joint: int, parents: np.ndarray) -> list[int]:
    line = [joint]
    while parents[line[-1]] >= 0:
        line.append(int(parents[line[-1]]))
    return line


def expression_space(actions: dict[str, np.ndarray], mirror: np.ndarray) -> np.ndarray:
    """
    Vertex offsets `(V, 3, 10)` of the units of expression.

    mirror (V,) is the mirror image of each vertex.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    units = []
    for number, parts in enumerate(UNITS.values()):
        offset = sum(share * _one_side(actions, name, number < SYMMETRIC)
                     for name, share in parts.items())
        other = offset[mirror] * flip
        units.append(0.5 * (offset + other) if number < SYMMETRIC else 0.5 * (offset - other))
    return np.stack(units, axis=-1)


def _one_side(actions: dict[str, np.ndarray], name: str, both: bool) -> np.ndarray:
    if name in actions:
        return actions[name]
    left, right = actions[f'{name}Left'], actions[f'{name}Right']
    return left + right if both else left - right


def landmarks(
        vertices: np.ndarray, faces: np.ndarray,
        between_eyes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Faces `(51,)` and shares of their corners `(51, 3)` of the landmarks: brows, nose, eyes, lips.

    vertices (V, 3), faces (F, 3) of the head at rest, between_eyes (3,). The order is that of the
    68 landmarks of iBUG without its contour: from the person's right to the left.
    """
    brow, bridge, nostrils, eye = map(np.array, (_BROW, _BRIDGE, _NOSTRILS, _EYE))
    upper, lower, inner = map(np.array, (_UPPER_LIP, _LOWER_LIP, _INNER_LIP))
    flip = np.array([-1, 1])
    places = np.concatenate([
        (brow * flip)[::-1], brow, bridge, (nostrils * flip)[:0:-1], nostrils,
        (eye * flip)[[3, 2, 1, 0, 5, 4]], eye,
        (upper * flip)[:0:-1], upper, lower, (lower * flip)[-2::-1],
        (inner * flip)[:2], inner[[2, 1, 0, 3, 4]], (inner * flip)[3:4]])
    return seen_from_the_front(vertices, faces, places * _MM + between_eyes[:2])


def contour(
        vertices: np.ndarray, faces: np.ndarray,
        between_eyes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces `(17,)` and shares `(17, 3)` of the line of the jaw, from the right ear to the left."""
    line = np.array(_JAW_LINE)
    places = np.concatenate([(line * [-1, 1])[:0:-1], line])
    return seen_from_the_front(vertices, faces, places * _MM + between_eyes[:2])


def seen_from_the_front(
        vertices: np.ndarray, faces: np.ndarray,
        places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Foremost face `(P,)` at each place (P, 2) (left, up), and the shares of its corners."""
    corners = vertices[faces].astype(np.float64)
    a, b, c = (corners[:, k, :2] for k in range(3))
    area = _cross(b - a, c - a)
    found, shares = [], []
    for place in places:
        with np.errstate(divide='ignore', invalid='ignore'):
            share = np.stack([_cross(b - place, c - place), _cross(c - place, a - place),
                              _cross(a - place, b - place)], axis=1) / area[:, None]
        hit = (area > 0) & (share > -1e-9).all(axis=1)
        if not hit.any():
            raise BodyError(f'no face of the body is in front of {place}; the landmarks in '
                            'build_face.py do not belong to this body')
        depth = np.where(hit, (share * corners[..., 2]).sum(axis=1), -np.inf)
        found.append(depth.argmax())
        shares.append(np.clip(share[found[-1]], 0, 1))
    return np.array(found), np.array(shares)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
