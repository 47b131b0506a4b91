# SPDX-License-Identifier: Apache-2.0
"""Joints from a file of OpenPose, JSON v1.3 with body and hands (sheet, section 1)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.errors import PerceptionError

#: key of each part and how many keypoints it has; only the body must be there.
_BODY, _HANDS = ('pose_keypoints_2d', 25), (
    ('hand_left_keypoints_2d', 21), ('hand_right_keypoints_2d', 21))
_HOW = 'write one with OpenPose: --model_pose BODY_25 --hand --write_json FOLDER'


def read_openpose(path: str | Path) -> Joints:
    """
    Read the joints of the first person, in pixels of the picture.

    Hands that the file lacks are missing. Raises PerceptionError, which names file and key, when
    the file cannot be read, has nobody, or has other numbers.
    """
    try:
        found = json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise PerceptionError(f'{path} cannot be read as JSON ({error}); {_HOW}') from error
    people = found.get('people') if isinstance(found, dict) else None
    if not isinstance(people, list) or not people or not isinstance(people[0], dict):
        raise PerceptionError(f'{path}: key people has nobody; {_HOW}')
    body = _rows(path, people[0], *_BODY)
    if body is None:
        raise PerceptionError(f'{path}: key people[0].{_BODY[0]} is missing; {_HOW}')
    hands = [_rows(path, people[0], key, count) for key, count in _HANDS]
    return Joints.from_openpose(
        body, *(np.zeros((21, 3)) if hand is None else hand for hand in hands))


def _rows(path: str | Path, person: dict[str, Any], key: str, count: int) -> np.ndarray | None:
    """Read keypoints `(count, 3)`; None where there is nothing."""
    numbers = person.get(key)
    if numbers is None or numbers == []:
        return None
    try:
        rows = np.array(numbers, np.float64)
    except (TypeError, ValueError, OverflowError):
        rows = np.zeros(0)
    if rows.shape != (3 * count,) or not np.isfinite(rows).all():
        size = len(numbers) if isinstance(numbers, list) else type(numbers).__name__
        raise PerceptionError(
            f'{path}: key people[0].{key} has {size} values; expected {3 * count} finite numbers: '
            f'x, y, confidence of {count} keypoints; {_HOW}')
    return rows.reshape(count, 3)
