# SPDX-License-Identifier: Apache-2.0
"""Sizes and joint sets of the whole-body network (sheet, section 1)."""

from __future__ import annotations

import math

#: height and width of what the network reads, and of what its body encoder sees of it.
IMAGE = (512, 384)
BODY = (256, 192)
HAND, FACE = 256, 192
#: cells of the heat-maps: depth, height, width.
BODY_CELLS, HAND_CELLS = (8, 8, 6), (8, 8, 8)
BODY_JOINTS = (
    'pelvis', 'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
    'neck', 'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist',
    'right_wrist', 'left_big_toe', 'left_small_toe', 'left_heel', 'right_big_toe',
    'right_small_toe', 'right_heel', 'left_ear', 'right_ear', 'left_eye', 'right_eye', 'nose')
HAND_JOINTS = tuple(
    f'{finger}{number}' for finger in ('thumb', 'index', 'middle', 'ring', 'pinky')
    for number in range(1, 5))
#: rows of HAND_JOINTS where fingers begin, thumb left out.
KNUCKLES = (4, 8, 12, 16)
#: rotations that come out: 21 of the body behind its root, 15 of each hand.
BODY_POSE, HAND_POSE = 21, 15
SHAPE, EXPRESSION = 10, 10
#: virtual focal length in pixels of the body crop, and side in metres of what it sees.
FOCAL, CAMERA_SIDE = 5000.0, 2.5
#: largest distance of the camera in metres.
FARTHEST = math.sqrt(FOCAL ** 2 * CAMERA_SIDE ** 2 / (BODY[0] * BODY[1]))
#: parts whose boxes are found, and how much larger than tight their crops are.
BOXES = {'lhand': 2.0, 'rhand': 2.0, 'face': 1.5}
