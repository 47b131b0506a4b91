# SPDX-License-Identifier: Apache-2.0
"""What the dataset readers share: checked arrays, joint orders, boxes, camera placement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hmr_ros.evaluation.datasets.people import JOINTS
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import usable_box

# A box around joints is widened by this part of its longer side: joints lie inside the body.
BOX_BORDER = 0.1


@dataclass(frozen=True, eq=False)
class Extrinsics:
    """Where a camera stands: x_camera = rotation @ x_world + translation, in metres."""

    rotation: np.ndarray
    translation: np.ndarray

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points `(..., 3)` in the camera's optical frame."""
        return points @ self.rotation.T + self.translation

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Points `(..., 3)` of the optical frame in the world, the inverse of `to_camera`."""
        return (points - self.translation) @ self.rotation


def array_of(
        value: Any, shape: tuple[int, ...], file: Path, field: str) -> np.ndarray:
    """
    Return `value` as float64 of `shape`, where -1 stands for any length.

    Raises EvaluationError, which names the file and the field.
    """
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f'{file}: field {field} does not hold numbers ({error})') from error
    if array.ndim != len(shape) or any(n not in (-1, m) for n, m in zip(shape, array.shape)):
        raise EvaluationError(
            f'{file}: field {field} has shape {array.shape}, expected {shape} (-1: any length); '
            'is this the official file?')
    return array


def field_of(record: Mapping[str, Any], field: str, file: Path) -> Any:
    """Return a field of a record or raise EvaluationError, which names both."""
    if not isinstance(record, Mapping) or field not in record:
        raise EvaluationError(f'{file}: field {field} is missing; is this the official file?')
    return record[field]


def placed(points: np.ndarray, weight: np.ndarray | float,
           order: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """
    Put a dataset's points `(K, D)` and weights `(K,)` in the order of the 29 joints.

    `order` maps a dataset's index to ours; joints it lacks are 0 with weight 0. Returns float32
    `(29, D)` and `(29,)`.
    """
    joints, weights = np.zeros((JOINTS, points.shape[1]), np.float32), np.zeros(JOINTS, np.float32)
    theirs, ours = list(order), list(order.values())
    weights[ours] = np.broadcast_to(weight, len(points))[theirs]
    joints[ours] = np.where(weights[ours, None] > 0, points[theirs], 0)
    return joints, weights


def box_around(points: np.ndarray) -> np.ndarray:
    """Box `(4,)` float32 around pixels `(K, 2)`, with a border because joints are inside."""
    low, high = points.min(axis=0), points.max(axis=0)
    border = BOX_BORDER * (high - low).max()
    return np.concatenate([low - border, high + border]).astype(np.float32)


def defect(points: np.ndarray, pixels: np.ndarray, camera: Camera) -> str | None:
    """Tell why a person with 3D `points` (K, 3) at `pixels` (K, 2) cannot be used, or None."""
    if not (np.isfinite(points).all() and np.isfinite(pixels).all()):
        return 'numbers are not finite'
    if points[:, 2].min() <= 0:
        return 'behind the camera'
    if not usable_box(box_around(pixels), camera.width, camera.height):
        return 'outside the picture'
    return None


def project(points: np.ndarray, camera: Camera, distortion: np.ndarray | None) -> np.ndarray:
    """Project points `(K, 3)` in metres to pixels `(K, 2)`, through the lens when it is known."""
    if distortion is None:
        return camera.project(points)
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    still = np.zeros(3)
    pixels, _ = cv2.projectPoints(np.asarray(points, np.float64)[:, None], still, still, matrix,
                                  np.asarray(distortion, np.float64))
    return pixels[:, 0]
