# SPDX-License-Identifier: Apache-2.0
"""Pictures to judge the synthetic people by eye: samples with their 2D joints drawn in."""

from __future__ import annotations

import cv2
import numpy as np

from hmr_ros.perception.skeleton import PARENTS
from hmr_ros.training.synthetic.generator import SyntheticPeople

_LEFT = {1, 4, 7, 10, 13, 16, 18, 20, 22, 25, 27}
_MIDDLE = {0, 3, 6, 9, 12, 15, 24}


def draw_joints(image: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> None:
    """
    Draw 29 `joints` (29, 2) on an RGB `image`, in place.

    Left is green, right is red, the middle yellow; hidden joints are hollow.
    """
    points = [tuple(int(round(float(v))) for v in p) for p in joints]
    for j, parent in enumerate(PARENTS):
        colour = (0, 220, 0) if j in _LEFT else (240, 220, 0) if j in _MIDDLE else (255, 40, 40)
        if parent >= 0:
            cv2.line(image, points[parent], points[j], colour, 1, cv2.LINE_AA)
        cv2.circle(image, points[j], 2, colour, -1 if visible[j] else 1, cv2.LINE_AA)


def contact_sheet(
        people: SyntheticPeople, rows: int = 5, columns: int = 8, epoch: int = 0) -> np.ndarray:
    """Tile `rows` x `columns` random samples to one RGB picture; every second shows its joints."""
    batch = people.batch(people.rng(epoch), rows * columns)
    tiles = batch['image'].copy()
    for i in range(0, len(tiles), 2):
        draw_joints(tiles[i], batch['keypoints2d'][i, :29], batch['visible'][i, :29])
    return np.concatenate(
        [np.concatenate(list(tiles[r * columns:(r + 1) * columns]), axis=1) for r in range(rows)])
