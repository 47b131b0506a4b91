# SPDX-License-Identifier: Apache-2.0
"""
From anatomical angles to SMPL rotations, within joint limits.

A pose is a row of named angles (flexion, abduction, ...), because limits and motions are known in
those terms: an elbow is a hinge, not a rotation vector. The rest pose is the T-pose of SMPL.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

#: name: (lowest, highest, at ease), degrees. Sided angles exist twice, as `name_l` and `name_r`.
_CENTRAL = {
    'root_pitch': (-180, 180, 0), 'root_roll': (-180, 180, 0),
    'spine_flex': (-25, 95, 3), 'spine_side': (-35, 35, 0), 'spine_twist': (-45, 45, 0),
    'neck_flex': (-45, 50, 4), 'neck_side': (-35, 35, 0), 'neck_twist': (-70, 70, 0),
}
_SIDED = {
    'hip_flex': (-28, 125, 0), 'hip_abduct': (-22, 50, 3), 'hip_rotate': (-40, 45, 6),
    'knee': (0, 150, 4), 'ankle': (-45, 32, 0), 'ankle_roll': (-20, 20, 0), 'toe': (-10, 45, 0),
    'collar_raise': (-8, 25, 0), 'collar_forward': (-14, 14, 0),
    'arm_swing': (-55, 180, 3), 'arm_lower': (-70, 100, 80), 'arm_twist': (-90, 90, 0),
    'elbow': (0, 148, 14), 'forearm_twist': (-80, 80, 0),
    'wrist_flex': (-60, 60, 6), 'wrist_side': (-22, 26, 0), 'finger': (-5, 35, 12),
}
NAMES = (*_CENTRAL, *(f'{name}_{side}' for side in 'lr' for name in _SIDED))
COLUMN = {name: i for i, name in enumerate(NAMES)}
_TABLE = np.radians(np.float64(
    [*_CENTRAL.values(), *_SIDED.values(), *_SIDED.values()]))
#: lowest and highest angle, `(A, 2)` radians.
LIMITS = _TABLE[:, :2]
#: the relaxed pose with hanging arms, `(A,)` radians.
AT_EASE = _TABLE[:, 2]
#: spread of everyday variation put on every motion, `(A,)` radians.
SPREAD = np.radians(np.float64(
    [3, 2, 4, 4, 4, 7, 4, 8] + [4, 3, 5, 4, 4, 3, 3, 3, 3, 7, 6, 14, 9, 16, 11, 6, 8] * 2))

SWAP_JOINTS = np.array(
    [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22])
_MIRROR = np.float64([1, -1, -1])


class Pose:
    """Angles of `count` poses, `(count, A)` radians, read and written by name in degrees."""

    def __init__(self, count: int) -> None:
        self.angles = np.tile(AT_EASE, (count, 1))

    def __len__(self) -> int:
        return len(self.angles)

    def __getitem__(self, name: str) -> np.ndarray:
        return np.degrees(self.angles[:, COLUMN[name]])

    def __setitem__(self, name: str, degrees: np.ndarray | float) -> None:
        self.angles[:, COLUMN[name]] = np.radians(degrees)

    def both(self, name: str, degrees: np.ndarray | float) -> None:
        """Set a sided angle on the left and the right."""
        self[f'{name}_l'] = degrees
        self[f'{name}_r'] = degrees

    def flatten_feet(self) -> None:
        """Turn the ankles so that the soles are level, as far as their limits go."""
        for side in 'lr':
            self[f'ankle_{side}'] = (
                self[f'knee_{side}'] - self[f'hip_flex_{side}'] + self['root_pitch'])


def limited(angles: np.ndarray) -> np.ndarray:
    """Clip angles `(N, A)` to `LIMITS`."""
    return np.clip(angles, LIMITS[:, 0], LIMITS[:, 1])


def _turn(order: str, *angles: np.ndarray) -> Rotation:
    """Product of axis rotations, first letter outermost."""
    return Rotation.from_euler(order.upper(), np.stack(angles, axis=-1))


def _leg(get) -> dict[int, Rotation]:
    """Rotations of the left hip, knee, ankle and foot."""
    zero = np.zeros_like(get('knee'))
    return {
        1: _turn('xzy', -get('hip_flex'), get('hip_abduct'), get('hip_rotate')),
        4: _turn('xyz', get('knee'), zero, zero),
        7: _turn('xzy', -get('ankle'), get('ankle_roll'), zero),
        10: _turn('xyz', -get('toe'), zero, zero)}


def _arm(get) -> dict[int, Rotation]:
    """Rotations of the left collar, shoulder, elbow, wrist and hand."""
    zero = np.zeros_like(get('elbow'))
    swing, lower = get('arm_swing'), get('arm_lower')
    # An arm that rises past the horizontal turns outwards, as real shoulders do.
    twist = get('arm_twist') + np.maximum(swing - 0.5 * np.pi, 0) * np.sin(np.maximum(lower, 0))
    half = -0.5 * get('forearm_twist')
    shoulder = _turn('xzy', -swing, -lower, zero) * _turn('xyz', twist, zero, zero)
    return {
        13: _turn('zyx', get('collar_raise'), -get('collar_forward'), zero),
        16: shoulder,
        18: _turn('yxz', -get('elbow'), half, zero),
        20: _turn('xzy', half, -get('wrist_flex'), get('wrist_side')),
        22: _turn('zyx', -get('finger'), zero, zero)}


def _centre(angles: np.ndarray) -> dict[int, Rotation]:
    """Rotations of the pelvis, the spine, the neck and the head."""
    get = {name: angles[:, i] for name, i in COLUMN.items()}
    spine = {
        joint: _turn('yzx', share * get['spine_twist'], share * get['spine_side'],
                     share * get['spine_flex'])
        for joint, share in ((3, 0.4), (6, 0.3), (9, 0.3))}
    neck = {
        joint: _turn('yzx', share * get['neck_twist'], share * get['neck_side'],
                     share * get['neck_flex'])
        for joint, share in ((12, 0.4), (15, 0.6))}
    root = {0: _turn('xzy', get['root_pitch'], get['root_roll'], np.zeros(len(angles)))}
    return {**root, **spine, **neck}


def to_rotvecs(angles: np.ndarray) -> np.ndarray:
    """
    SMPL pose of anatomical angles.

    angles (N, A) radians, columns as in `NAMES`. Returns rotation vectors (N, 24, 3) float32
    relative to the parents; the root holds pitch and roll, no heading.
    """
    pose = np.zeros((len(angles), 24, 3))
    for joint, rotation in _centre(angles).items():
        pose[:, joint] = rotation.as_rotvec()
    for side in 'lr':
        def get(name: str, side: str = side) -> np.ndarray:
            return angles[:, COLUMN[f'{name}_{side}']]
        for joint, rotation in {**_leg(get), **_arm(get)}.items():
            if side == 'l':
                pose[:, joint] = rotation.as_rotvec()
            else:
                pose[:, SWAP_JOINTS[joint]] = rotation.as_rotvec() * _MIRROR
    return pose.astype(np.float32)


def mirrored(rotvecs: np.ndarray) -> np.ndarray:
    """Pose `(N, 24, 3)` of the person in a mirror that swaps left and right."""
    return (rotvecs[:, SWAP_JOINTS] * _MIRROR).astype(rotvecs.dtype)
