# SPDX-License-Identifier: Apache-2.0
"""
Joints of the SMPL-X layout: their tree, their mirror images and which of them are supervised.

55 joints move the mesh; with 21 named vertices, 51 landmarks of the face and 17 of its contour
there are 144. Source: bidrn sheet, section 1, and the SMPL-X file format.
"""

from __future__ import annotations

import numpy as np

JOINTS, BODY_JOINTS, HAND_JOINTS = 55, 22, 15
JAW, LEFT_EYE, RIGHT_EYE, LEFT_HAND, RIGHT_HAND = 22, 23, 24, 25, 40
NECK, HEAD, LEFT_WRIST, RIGHT_WRIST = 12, 15, 20, 21
#: fingers in the order of their joints, three each.
FINGERS = ('index', 'middle', 'pinky', 'ring', 'thumb')
#: vertices that count as joints 55..75.
NAMED_VERTICES = (
    'nose', 'right_eye', 'left_eye', 'right_ear', 'left_ear', 'left_big_toe', 'left_small_toe',
    'left_heel', 'right_big_toe', 'right_small_toe', 'right_heel',
    *(f'{side}_{finger}' for side in ('left', 'right')
      for finger in ('thumb', 'index', 'middle', 'ring', 'pinky')))
#: those of the official topology.
SMPLX_VERTICES = 10475
SMPLX_NAMED_VERTICES = np.array([
    9120, 9929, 9448, 616, 6, 5770, 5780, 8846, 8463, 8474, 8635,
    5361, 4933, 5058, 5169, 5286, 8079, 7669, 7794, 7905, 8022], np.int32)
LANDMARKS, CONTOUR, CONTOUR_VIEWS = 51, 17, 79
ALL = JOINTS + len(NAMED_VERTICES) + LANDMARKS + CONTOUR


def _hand_parents(wrist: int, first: int) -> list[int]:
    return [wrist if j % 3 == 0 else first + j - 1 for j in range(HAND_JOINTS)]


#: parent of each of the 55 joints, -1 for the root.
PARENTS = np.array([
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, HEAD, HEAD, HEAD,
    *_hand_parents(LEFT_WRIST, LEFT_HAND), *_hand_parents(RIGHT_WRIST, RIGHT_HAND)])
#: rows of the 144 that are supervised, 137: 25 of the body, 20 of each hand, 72 of the face.
SUPERVISED = np.array([
    0, 1, 2, 4, 5, 7, 8, 12, *range(16, 22), *range(60, 66), 59, 58, 57, 56, 55,
    37, 38, 39, 66, 25, 26, 27, 67, 28, 29, 30, 68, 34, 35, 36, 69, 31, 32, 33, 70,
    52, 53, 54, 71, 40, 41, 42, 72, 43, 44, 45, 73, 49, 50, 51, 74, 46, 47, 48, 75,
    22, 15, 57, 56, *range(76, 144)])


def _mirror() -> np.ndarray:
    body = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20]
    hands = [*range(RIGHT_HAND, JOINTS), *range(LEFT_HAND, RIGHT_HAND)]
    named = [0, 2, 1, 4, 3, 8, 9, 10, 5, 6, 7, *range(16, 21), *range(11, 16)]
    # Brows and nose from right to left, then the eyes, the outer and the inner lip.
    face = [*range(9, -1, -1), 10, 11, 12, 13, 18, 17, 16, 15, 14,
            28, 27, 26, 25, 30, 29, 22, 21, 20, 19, 24, 23,
            37, 36, 35, 34, 33, 32, 31, 42, 41, 40, 39, 38, 47, 46, 45, 44, 43, 50, 49, 48]
    return np.array([
        *body, JAW, RIGHT_EYE, LEFT_EYE, *hands, *(55 + np.array(named)), *(76 + np.array(face)),
        *range(143, 126, -1)])


#: left-right partner of each of the 144.
MIRROR = _mirror()
_ROW = {joint: row for row, joint in enumerate(SUPERVISED[:65])}
#: left-right partner of each of the 137; eyes are there twice, in the body and in the face.
SUPERVISED_MIRROR = np.array(
    [_ROW[MIRROR[joint]] for joint in SUPERVISED[:65]] + [65, 66, 68, 67]
    + [69 + MIRROR[joint] - 76 for joint in SUPERVISED[69:]])
