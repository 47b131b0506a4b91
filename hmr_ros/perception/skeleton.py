# SPDX-License-Identifier: Apache-2.0
"""The SMPL skeleton and its five leaves: names, tree, inverse kinematics children, swaps."""

from __future__ import annotations

import numpy as np

JOINT_NAMES = (
    'pelvis', 'left_hip', 'right_hip', 'spine1', 'left_knee', 'right_knee', 'spine2', 'left_ankle',
    'right_ankle', 'spine3', 'left_foot', 'right_foot', 'neck', 'left_collar', 'right_collar',
    'head', 'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist',
    'right_wrist', 'left_hand', 'right_hand')
LEAF_NAMES = ('head_top', 'left_fingertip', 'right_fingertip', 'left_toe', 'right_toe')

# Parent of each of the 24 joints and, after them, of each of the 5 leaves; -1 for the root.
PARENTS = np.array([
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
    15, 22, 23, 10, 11])

# The one child whose direction gives a joint its swing; the root has three and is solved apart.
SWING_CHILDREN = np.array([
    -1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 27, 28, 15, 16, 17, 24, 18, 19, 20, 21, 22, 23, 25, 26])

#: bones of a hand of twenty joints: thumb to little finger, four joints each.
HAND_BONES = np.array([
    (4 * finger + joint, 4 * finger + joint + 1) for finger in range(5) for joint in range(3)])

# Pairs that change places when an image is mirrored.
MIRROR_PAIRS = (
    (1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21), (22, 23),
    (25, 26), (27, 28))

# Joints 1..23 grouped by their depth in the tree: within a group none depends on another.
LEVELS = tuple(np.array(level) for level in (
    (1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12, 13, 14), (15, 16, 17), (18, 19), (20, 21),
    (22, 23)))
