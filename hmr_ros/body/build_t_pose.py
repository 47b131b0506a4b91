# SPDX-License-Identifier: Apache-2.0
"""From the A-pose of the source rig to the T-pose of SMPL."""

from __future__ import annotations

import numpy as np

from hmr_ros.body.build_rig import Rig

LEG_DIRECTION = np.array([0.05, 0.0, -1.0])


def aim(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Smallest rotation `(3, 3)` that turns direction `source` onto `target`."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    v, c = np.cross(a, b), a @ b
    k = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + k + k @ k / (1 + c)


def about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation `(3, 3)` by `angle` radians about the unit vector `axis`."""
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def limb_rotations(labels: list[str], heads: np.ndarray) -> np.ndarray:
    """
    World rotation of every bone `(J, 3, 3)` that brings the rest body into a T-pose.

    Left limbs are aimed and right limbs mirrored, so that the result stays exactly symmetric.
    """
    at = {name: heads[i] for i, name in enumerate(labels)}
    turn = {name: np.eye(3) for name in labels}
    _arm(at, turn)
    _leg(at, turn)
    flip = np.diag([-1.0, 1.0, 1.0])
    for name in labels:
        if name.endswith('.R'):
            turn[name] = flip @ turn[name[:-1] + 'L'] @ flip
    return np.stack([turn[name] for name in labels])


def _arm(at: dict[str, np.ndarray], turn: dict[str, np.ndarray]) -> None:
    left = np.array([1.0, 0.0, 0.0])
    upper = aim(at['lowerarm01.L'] - at['upperarm01.L'], left)
    raised = np.arccos(np.clip((np.trace(upper) - 1) / 2, -1, 1))
    turn['clavicle.L'] = about(np.array([0.0, -1.0, 0.0]), 0.25 * raised)
    turn['shoulder01.L'] = about(np.array([0.0, -1.0, 0.0]), 0.45 * raised)
    turn['upperarm01.L'] = turn['upperarm02.L'] = upper
    lower = aim(upper @ (at['wrist.L'] - at['lowerarm01.L']), left) @ upper
    knuckles = at['finger3-1.L'] - at['wrist.L']
    hand = aim(lower @ knuckles, left) @ lower
    across = hand @ (at['finger2-1.L'] - at['finger5-1.L'])
    # Palm down, thumb to the front: the knuckles run from back to front.
    pronate = np.arctan2(across[2], -across[1])
    turn['lowerarm01.L'] = about(left, 0.33 * pronate) @ lower
    turn['lowerarm02.L'] = about(left, 0.66 * pronate) @ lower
    hand = about(left, pronate) @ hand
    for name in turn:
        if name.endswith('.L') and name.startswith(('wrist', 'metacarpal', 'finger')):
            turn[name] = hand
    _straighten_fingers(at, turn, hand)


def _straighten_fingers(
        at: dict[str, np.ndarray], turn: dict[str, np.ndarray], hand: np.ndarray) -> None:
    for finger in '2345':
        bones = [f'finger{finger}-{i}.L' for i in '123']
        for bone, after in zip(bones, bones[1:] + bones[-1:]):
            first = bones[-2] if bone == after else bone
            direction = hand @ (at[after] - at[first])
            relaxed = direction / np.linalg.norm(direction) + np.array([2.5, 0.0, 0.0])
            turn[bone] = aim(direction, relaxed) @ hand


def _leg(at: dict[str, np.ndarray], turn: dict[str, np.ndarray]) -> None:
    thigh = aim(at['lowerleg01.L'] - at['upperleg01.L'], LEG_DIRECTION)
    shank = aim(thigh @ (at['foot.L'] - at['lowerleg01.L']), LEG_DIRECTION * [0.3, 1, 1]) @ thigh
    turn['upperleg01.L'] = turn['upperleg02.L'] = thigh
    turn['lowerleg01.L'] = turn['lowerleg02.L'] = shank


def pose_rig(
        rig: Rig, vertices: np.ndarray, heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skin `vertices` `(V, 3)` and bone heads `(J, 3)` of one shape into the T-pose."""
    turn = limb_rotations(rig.labels, heads)
    moved = heads.copy()
    for j, parent in enumerate(rig.parents):
        if parent >= 0:
            moved[j] = moved[parent] + turn[parent] @ (heads[j] - heads[parent])
    offset = moved - np.einsum('jab,jb->ja', turn, heads)
    blended = np.einsum('vj,jab->vab', rig.weights, turn)
    return np.einsum('vab,vb->va', blended, vertices) + rig.weights @ offset, moved


def to_smpl_axes(points: np.ndarray) -> np.ndarray:
    """Turn z up, facing -y into y up, facing +z."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)
