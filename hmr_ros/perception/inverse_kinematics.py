# SPDX-License-Identifier: Apache-2.0
"""
Analytic inverse kinematics of the SMPL skeleton: joint positions and twists to joint rotations.

Method of HybrIK (Li et al. 2021) as keypoint_guided uses it: the root is aligned to three bones,
every other joint swings its rest bone onto the observed direction and twists about it. Everything
is batched over people and over the joints of one tree level; positions in metres.
"""

from __future__ import annotations

from typing import Callable, Literal

import numpy as np

from hmr_ros.perception import rotations
from hmr_ros.perception.skeleton import LEVELS, PARENTS, SWING_CHILDREN

# Above this distance between the reached and the observed bone end the observed direction wins.
ADAPTIVE_LIMIT_M = 0.015
_TINY_M = 1e-6
_ROOT_BONES = (3, 1, 2)


def _norm(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum('...i,...i->...', vectors, vectors))[..., None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Unit vectors; zero vectors stay zero."""
    length = _norm(vectors)
    return vectors / np.where(length > 0, length, 1)


def _correlation(points: np.ndarray, bones: np.ndarray) -> np.ndarray:
    """Sum over the root's bones of (rest bone)(observed bone)^T, `(N, 3, 3)`."""
    return np.einsum('nki,nkj->nij', bones[:, _ROOT_BONES], points[:, _ROOT_BONES])


def svd_root(points: np.ndarray, bones: np.ndarray) -> np.ndarray:
    """
    Root rotations `(N, 3, 3)` by Kabsch's method; identity where the points are all zero.

    points (N, 29, 3) relative to joint 0, bones (N, 29, 3) from each parent at rest.
    """
    correlation = _correlation(points, bones)
    u, _, vt = np.linalg.svd(correlation)
    v = np.swapaxes(vt, -1, -2)
    v[..., 2] *= np.linalg.det(v @ np.swapaxes(u, -1, -2))[..., None]
    empty = np.all(correlation == 0, axis=(-2, -1), keepdims=True)
    return np.where(empty, np.eye(3), v @ np.swapaxes(u, -1, -2))


def horn_root(points: np.ndarray, bones: np.ndarray) -> np.ndarray:
    """
    Root rotations `(N, 3, 3)` by Horn's quaternion method; same result as `svd_root`.

    The largest eigenvector comes from repeated squaring, so no decomposition is needed and the
    same steps can run in an engine.
    """
    m = _correlation(points, bones)
    trace = np.trace(m, axis1=-2, axis2=-1)
    a = np.zeros((len(m), 4, 4), m.dtype)
    a[:, 0, 0] = trace
    a[:, 0, 1] = a[:, 1, 0] = m[:, 1, 2] - m[:, 2, 1]
    a[:, 0, 2] = a[:, 2, 0] = m[:, 2, 0] - m[:, 0, 2]
    a[:, 0, 3] = a[:, 3, 0] = m[:, 0, 1] - m[:, 1, 0]
    a[:, 1:, 1:] = m + np.swapaxes(m, -1, -2) - trace[:, None, None] * np.eye(3)
    norm = np.linalg.norm(a, axis=(-2, -1), keepdims=True)
    # Adding the identity makes the largest eigenvalue the dominant one.
    a = a / np.where(norm > 0, norm, 1) + np.eye(4)
    for _ in range(12):
        a = a @ a
        a /= np.linalg.norm(a, axis=(-2, -1), keepdims=True)
    best = np.argmax(np.diagonal(a, axis1=-2, axis2=-1), axis=-1)
    quaternion = np.take_along_axis(a, best[:, None, None], axis=-1)[..., 0]
    return rotations.quaternion_to_matrix(_unit(quaternion))


def swing(bones: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """
    Return the smallest rotations `(..., 3, 3)` that turn `bones` into the directions `targets`.

    Identity where either is zero; half a turn about some axis orthogonal to the bone where they
    are antiparallel.
    """
    bones, targets = _unit(bones), _unit(targets)
    axis = rotations.cross(bones, targets)
    sine, cosine = _norm(axis), np.einsum('...i,...i->...', bones, targets)[..., None]
    aligned = sine < 1e-7
    if np.any(aligned):
        # The coordinate axis least aligned with the bone gives a safe orthogonal direction.
        least = np.eye(3)[np.argmin(np.abs(bones), axis=-1)]
        axis = np.where(aligned, rotations.cross(bones, least), axis)
        sine, cosine = np.where(aligned, 0, sine), np.where(
            aligned, np.where(cosine < 0, -1, 1), cosine)
    return turn(_unit(axis), cosine, sine)


def turn(axis: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Rotations `(..., 3, 3)` about unit axes `(..., 3)`; cosine and sine `(..., 1)`."""
    cross = rotations.skew(axis)
    return (
        np.eye(3) + sine[..., None] * cross + (1 - cosine[..., None]) * (cross @ cross))


def _unit_twists(phi: np.ndarray) -> np.ndarray:
    length = _norm(phi)
    return np.where(length > 1e-8, phi / np.where(length > 1e-8, length, 1), [1.0, 0.0])


def _adaptive_targets(
        points: np.ndarray, placed: np.ndarray, joints: np.ndarray, bone_lengths: np.ndarray,
        observed: np.ndarray) -> np.ndarray:
    """Bone vectors from where each joint was placed; the observed direction where that is far."""
    reach = points[:, SWING_CHILDREN[joints]] - placed[:, joints]
    nominal = _unit(observed) * bone_lengths
    return np.where(_norm(reach - nominal) > ADAPTIVE_LIMIT_M, nominal, reach)


def solve_rotations(
        points: np.ndarray, rest: np.ndarray, phi: np.ndarray,
        targets: Literal['adaptive', 'naive'] = 'adaptive',
        root: Callable[[np.ndarray, np.ndarray], np.ndarray] = horn_root) -> np.ndarray:
    """
    Solve the 24 joint rotations of N people.

    points  (N, 29, 3)  observed joints and leaves relative to joint 0, metres, finite
    rest    (N, 29, 3)  joints and leaves of the shaped rest bodies, metres
    phi     (N, 23, 2)  (cos, sin) of the twists of joints 1..23, of any length
    targets 'adaptive' corrects the errors of the joints above; 'naive' follows observed directions
    root    `horn_root` or `svd_root`

    Returns float32 `(N, 24, 3, 3)`, parent-relative, the root in the frame of `points`. Bones
    without an observed direction keep their parent's orientation.
    """
    points, rest = np.asarray(points, np.float64), np.asarray(rest, np.float64)
    points = points - points[:, :1]
    bones = np.zeros_like(rest)
    bones[:, 1:] = rest[:, 1:] - rest[:, PARENTS[1:]]
    twists = _unit_twists(np.asarray(phi, np.float64))
    twists = turn(_unit(bones[:, SWING_CHILDREN[1:]]), twists[..., :1], twists[..., 1:])
    local, world = np.empty((2, len(points), 24, 3, 3))
    local[:, 0] = world[:, 0] = root(points, bones)
    placed = np.zeros((len(points), 24, 3))
    for joints in LEVELS:
        above, children = world[:, PARENTS[joints]], SWING_CHILDREN[joints]
        placed[:, joints] = placed[:, PARENTS[joints]] + (above @ bones[:, joints, :, None])[..., 0]
        bone = bones[:, children]
        observed = points[:, children] - points[:, joints]
        wanted = observed if targets == 'naive' else _adaptive_targets(
            points, placed, joints, _norm(bone), observed)
        wanted = (np.swapaxes(above, -1, -2) @ wanted[..., None])[..., 0]
        wanted = np.where((_norm(observed) < _TINY_M) | (_norm(wanted) < _TINY_M), bone, wanted)
        local[:, joints] = swing(bone, wanted) @ twists[:, joints - 1]
        world[:, joints] = above @ local[:, joints]
    return local.astype(np.float32)


def twist_angles(rotmats: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """
    Signed twists `(N, 23)` in radians of joints 1..23 about their bones: the labels of `phi`.

    rotmats (N, 24, 3, 3) parent-relative; rest (N, 29, 3) or (1, 29, 3). Each rotation is split
    into the smallest one that moves the bone and a turn about the bone before it.
    """
    bones = rest[:, SWING_CHILDREN[1:]] - rest[:, 1:24]
    quaternion = rotations.matrix_to_quaternion(rotmats[:, 1:])
    along = np.sum(quaternion[..., 1:] * _unit(bones), axis=-1)
    angle = 2 * np.arctan2(along, quaternion[..., 0])
    return np.arctan2(np.sin(angle), np.cos(angle))


def forward_kinematics(rotmats: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Pose the skeleton: joints and leaves `(N, 29, 3)` and global rotations `(N, 24, 3, 3)`.

    rotmats (N, 24, 3, 3) parent-relative, rest (N, 29, 3); joint 0 stays where it is at rest.
    """
    joints, world = np.empty_like(rest), np.empty_like(rotmats)
    joints[:, 0], world[:, 0] = rest[:, 0], rotmats[:, 0]
    for j in range(1, 29):
        parent = PARENTS[j]
        bone = rest[:, j] - rest[:, parent]
        joints[:, j] = joints[:, parent] + (world[:, parent] @ bone[..., None])[..., 0]
        if j < 24:
            world[:, j] = world[:, parent] @ rotmats[:, j]
    return joints, world
