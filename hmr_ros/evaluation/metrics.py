# SPDX-License-Identifier: Apache-2.0
"""
How far predicted joints are from true ones.

Every measure comes per person and joint first, so that means over any group are one line. A mean
is taken over all persons and joints alike, not over the means of persons.
"""

from __future__ import annotations

import numpy as np

from hmr_ros.body.coco import LIMBS
from hmr_ros.evaluation.errors import EvaluationError

# Rows of the 24 SMPL joints.
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 16, 17, 1, 2
#: the twelve limb joints that people can label by eye, in SMPL order of rows.
LIMB_JOINTS = LIMBS


def torso_size(joints2d: np.ndarray) -> np.ndarray:
    """
    Torso `(N,)` of SMPL joints `(N, 24 or more, 2)`, in the unit of the joints.

    The longer of the two diagonals from a shoulder to the opposite hip: unlike the single diagonal
    of PCK's first use it does not shrink when the person turns to one side or lifts a shoulder.
    """
    return torso_diagonals(joints2d).max(axis=0)


def torso_diagonals(joints2d: np.ndarray) -> np.ndarray:
    """Lengths `(2, N)` from either shoulder to the opposite hip; NaN where a joint is NaN."""
    points = np.asarray(joints2d, np.float64)
    return np.linalg.norm(np.stack([
        points[:, LEFT_SHOULDER] - points[:, RIGHT_HIP],
        points[:, RIGHT_SHOULDER] - points[:, LEFT_HIP]]), axis=-1)


def pck_hits(
        predicted: np.ndarray, true: np.ndarray, torso: np.ndarray, thresholds: np.ndarray,
        valid: np.ndarray) -> np.ndarray:
    """
    Tell which joints lie within a share of the torso of their place.

    predicted, true (N, J, 2), torso (N,) positive, thresholds (T,) shares of the torso, valid
    (N, J). Returns (T, N, J) float64: 1 hit, 0 miss, NaN where not valid. A prediction that is
    not finite is a miss. Raises EvaluationError for a torso that is not positive.
    """
    torso = np.asarray(torso, np.float64)
    if not np.all(torso > 0):
        raise EvaluationError(
            f'torso of person {int(np.argmin(torso > 0))} is {torso[np.argmin(torso > 0)]}; '
            'expected a positive size. Check the labels of shoulders and hips')
    distance = np.linalg.norm(np.asarray(predicted, np.float64) - true, axis=-1)
    limits = np.multiply.outer(np.asarray(thresholds, np.float64), torso)
    hits = (distance <= limits[..., None]).astype(np.float64)
    return np.where(np.asarray(valid, bool), hits, np.nan)


def pck(
        predicted: np.ndarray, true: np.ndarray, torso: np.ndarray, thresholds: np.ndarray,
        valid: np.ndarray) -> np.ndarray:
    """Percentage `(T,)` of valid joints that are hits; see `pck_hits`. NaN without valid ones."""
    return mean_percent(pck_hits(predicted, true, torso, thresholds, valid), axis=(1, 2))


def mean_percent(hits: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Mean of hits over `axis` in percent, NaN entries left out; NaN where none is left."""
    counted = ~np.isnan(hits)
    total, count = np.where(counted, hits, 0).sum(axis=axis), counted.sum(axis=axis)
    return 100 * np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def joint_errors(predicted: np.ndarray, true: np.ndarray, root: int = 0) -> np.ndarray:
    """Distances `(N, J)` of joints `(N, J, 3)` after joint `root` was put onto its true place."""
    return _distances(predicted - predicted[:, root:root + 1], true - true[:, root:root + 1])


def aligned_errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Distances `(N, J)` of joints `(N, J, 3)` after the best similarity; see `procrustes`."""
    return _distances(procrustes(predicted, true), true)


def mpjpe(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean per-joint position error after the pelvis, joint 0, was aligned; unit of the input."""
    return float(joint_errors(predicted, true).mean())


def pa_mpjpe(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean per-joint position error after the best similarity; unit of the input."""
    return float(aligned_errors(predicted, true).mean())


def acceleration_errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """
    Lengths `(F - 2, J)` of the difference of accelerations of joints `(F, J, 3)`.

    Frames are consecutive; unit of the input per frame squared (Kanazawa et al. 2019).
    """
    return np.linalg.norm(
        np.diff(np.asarray(predicted, np.float64) - np.asarray(true, np.float64), 2, axis=0),
        axis=-1)


def procrustes(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """
    Move `predicted` (N, J, 3) onto `true` (N, J, 3) by one rotation, scale and shift per person.

    Least squares without mirroring (Umeyama 1991). Points that all coincide have no rotation; they
    go to the true centre.
    """
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    centre, true_centre = predicted.mean(axis=1, keepdims=True), true.mean(axis=1, keepdims=True)
    moved = predicted - centre
    covariance = np.swapaxes(moved, 1, 2) @ (true - true_centre)
    u, values, vt = np.linalg.svd(covariance)
    sign = np.ones_like(values)
    sign[:, 2] = np.where(np.linalg.det(u @ vt) < 0, -1, 1)
    rotation = (u * sign[:, None]) @ vt
    spread = np.sum(moved ** 2, axis=(1, 2))
    strength = np.sum(values * sign, axis=1)
    scale = np.divide(strength, spread, out=np.zeros_like(spread), where=spread > 0)
    return scale[:, None, None] * (moved @ rotation) + true_centre


def _distances(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.asarray(predicted, np.float64) - true, axis=-1)
