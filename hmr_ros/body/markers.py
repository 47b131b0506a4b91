# SPDX-License-Identifier: Apache-2.0
"""
The 5 leaf and 67 marker vertices of keypoint_guided on a body of any topology.

Source: keypoint_guided sheet, sections 1.4 to 1.6.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

LEG, ARM, HEAD = (1, 4, 7, 10), (16, 18, 20, 22), (12, 15)
TORSO = (0, 3, 6, 9, 12, 13, 14, 1, 2, 16, 17)
NECK = TORSO + HEAD

MARKER_NAMES = (
    'LBAK LSCAP RSCAP LELBIN LNWST RNWST RELBIN LTHI RTHI LKNI RKNI RFTHI LFTHI RFTHIIN LFTHIIN '
    'MBLLY RBUST LBUST RCHEECK LCHEECK RFHD LFHD RSHO CLAV LSHO RUPA LUPA STRN RELB LELB RFRM '
    'LFRM RFWT LFWT RIWR LIWR RTHMB LTHMB RFIN LFIN RTHI LTHI RKNE LKNE RSHN LSHN RANK LANK RMT1 '
    'LMT1 RMT5 LMT5 RRSTBEEF LRSTBEEF RTOE LTOE LHEE RHEE LBWT RBWT T10 C7 LBHD RBHD RBAK LOWR '
    'ROWR').split()
MIDLINE_MARKERS = ('MBLLY', 'CLAV', 'STRN', 'T10', 'C7')

# name: ({joint: weight}, raise as a fraction of the height, direction (left, up, front), group)
ANCHORS: dict[str, tuple[dict[int, float], float, tuple[float, float, float], tuple[int, ...]]] = {
    'BAK': ({9: .6, 16: .4}, 0, (0, 0, -1), TORSO),
    'SCAP': ({9: .35, 16: .65}, .02, (0, 0, -1), TORSO),
    'NWST': ({3: .5, 6: .5}, 0, (1, 0, 0), TORSO),
    'BUST': ({6: .5, 16: .5}, 0, (0, 0, 1), TORSO),
    'FWT': ({1: 1}, .05, (.4, 0, 1), TORSO),
    'BWT': ({0: .4, 1: .6}, .05, (0, 0, -1), TORSO),
    'SHO': ({16: 1}, 0, (0, 1, 0), TORSO),
    'UPA': ({16: .5, 18: .5}, 0, (0, 1, -.5), ARM),
    'ELB': ({18: 1}, 0, (0, 0, -1), ARM),
    'ELBIN': ({18: 1}, 0, (0, 0, 1), ARM),
    'FRM': ({18: .5, 20: .5}, 0, (0, 1, 0), ARM),
    'IWR': ({20: 1}, 0, (0, 0, 1), ARM),
    'OWR': ({20: 1}, 0, (0, 0, -1), ARM),
    'THMB': ({20: .45, 22: .55}, 0, (0, 0, 1), ARM),
    'FIN': ({22: 1}, 0, (0, 1, 0), ARM),
    'THI': ({1: .5, 4: .5}, 0, (1, 0, 0), LEG),
    'FTHI': ({1: .5, 4: .5}, 0, (0, 0, 1), LEG),
    'FTHIIN': ({1: .65, 4: .35}, 0, (-1, 0, 1), LEG),
    'KNE': ({4: 1}, 0, (1, 0, 0), LEG),
    'KNI': ({4: 1}, 0, (-1, 0, 0), LEG),
    'SHN': ({4: .5, 7: .5}, 0, (0, 0, 1), LEG),
    'ANK': ({7: 1}, 0, (1, 0, 0), LEG),
    'HEE': ({7: 1}, 0, (0, -.3, -1), LEG),
    'RSTBEEF': ({7: .5, 10: .5}, 0, (1, 0, 0), LEG),
    'MT1': ({10: 1}, 0, (-1, 0, 0), LEG),
    'MT5': ({10: 1}, 0, (1, 0, 0), LEG),
    'TOE': ({10: 1}, 0, (0, 0, 1), LEG),
    'CHEECK': ({15: 1}, 0, (.6, 0, 1), HEAD),
    'FHD': ({15: 1}, .03, (.6, .9, 1), HEAD),
    'BHD': ({15: 1}, .03, (.6, .9, -1), HEAD),
    'MBLLY': ({3: 1}, 0, (0, 0, 1), TORSO),
    'CLAV': ({9: .2, 12: .8}, 0, (0, 0, 1), TORSO),
    'STRN': ({6: .3, 9: .7}, 0, (0, 0, 1), TORSO),
    'T10': ({6: 1}, 0, (0, 0, -1), TORSO),
    'C7': ({12: 1}, 0, (0, 0, -1), NECK),
}


def marker_swap() -> np.ndarray:
    """Row of the mirrored marker for each of the 67 rows; doubled rows swap in order."""
    swap = np.arange(len(MARKER_NAMES))
    for name in set(MARKER_NAMES) - set(MIDLINE_MARKERS):
        rows = [i for i, other in enumerate(MARKER_NAMES) if other == name]
        mirrored = ('R' if name[0] == 'L' else 'L') + name[1:]
        swap[rows] = [i for i, other in enumerate(MARKER_NAMES) if other == mirrored]
    return swap


def choose_markers(
        v_template: np.ndarray, faces: np.ndarray, weights: np.ndarray,
        joints: np.ndarray) -> np.ndarray:
    """
    Choose the 67 marker vertices `(67,)` int32 on a symmetric rest body.

    v_template (V, 3), faces (F, 3), weights (V, 24), joints (24, 3); x left, y up, z front.
    """
    _, mirror = cKDTree(v_template).query(v_template * [-1, 1, 1])
    strongest = weights.argmax(1)
    height = np.ptp(v_template[:, 1])
    left = {}
    for name, (anchor, raised, direction, group) in ANCHORS.items():
        origin = sum(w * joints[j] for j, w in anchor.items()) + [0, raised * height, 0]
        if name in MIDLINE_MARKERS:
            origin[0] = 0.0
        allowed = np.isin(strongest, group)
        triangles = faces[allowed[faces].all(1)]
        left[name] = _last_hit_vertex(v_template, triangles, origin, np.array(direction, float))
    rows = [
        left[name] if name in MIDLINE_MARKERS else
        left[name[1:]] if name[0] == 'L' else mirror[left[name[1:]]] for name in MARKER_NAMES]
    return np.array(rows, np.int32)


def _last_hit_vertex(
        vertices: np.ndarray, triangles: np.ndarray, origin: np.ndarray,
        direction: np.ndarray) -> int:
    """Vertex nearest to where a ray last leaves the triangles (Moeller-Trumbore)."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normal = np.cross(direction, c - a)
    determinant = ((b - a) * normal).sum(1)
    determinant = np.where(np.abs(determinant) < 1e-12, np.inf, determinant)
    offset = origin - a
    u = (offset * normal).sum(1) / determinant
    q = np.cross(offset, b - a)
    v = (q @ direction) / determinant
    distance = ((c - a) * q).sum(1) / determinant
    eps = 1e-6
    hit = (u >= -eps) & (v >= -eps) & (u + v <= 1 + eps) & (distance > 0)
    point = origin + direction * distance[hit].max()
    candidates = np.unique(triangles)
    return int(candidates[np.linalg.norm(vertices[candidates] - point, axis=1).argmin()])


def choose_leaves(
        v_template: np.ndarray, weights: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """
    Choose head top, left / right middle fingertip, left / right big toe: `(5,)` int32.

    Head top is the highest midline vertex of the head, a fingertip the vertex of the hand
    farthest from the wrist, a big toe the foremost vertex of the foot.
    """
    strongest = weights.argmax(1)
    _, mirror = cKDTree(v_template).query(v_template * [-1, 1, 1])
    midline = (strongest == 15) & (np.abs(v_template[:, 0]) < 1e-3)
    head = np.where(midline, v_template[:, 1], -np.inf).argmax()
    reach = np.linalg.norm(v_template - joints[20], axis=1)
    finger = np.where(strongest == 22, reach, -np.inf).argmax()
    toe = np.where(strongest == 10, v_template[:, 2], -np.inf).argmax()
    return np.array([head, finger, mirror[finger], toe, mirror[toe]], np.int32)
