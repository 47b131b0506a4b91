# SPDX-License-Identifier: Apache-2.0
"""Labels of a person in a camera, and what a mirror or a turn of the picture does to them."""

from __future__ import annotations

import numpy as np

from hmr_ros.training.synthetic.poses import SWAP_JOINTS

DEPTH_SCALE_M = 2.2
#: box side = 1.25 times the longer side of the person's box.
BOX_MARGIN = 1.25
#: the child whose bone a joint's swing follows, joints 1..23.
IK_CHILD = np.array(
    [4, 5, 6, 7, 8, 9, 10, 11, 12, 27, 28, 15, 16, 17, 24, 18, 19, 20, 21, 22, 23, 25, 26])
SWAP_29 = np.concatenate([SWAP_JOINTS, [24, 26, 25, 28, 27]])
_MARKER_PAIRS = (
    (0, 64), (1, 2), (3, 6), (4, 5), (7, 8), (9, 10), (11, 12), (13, 14), (16, 17), (18, 19),
    (20, 21), (22, 24), (25, 26), (28, 29), (30, 31), (32, 33), (34, 35), (36, 37), (38, 39),
    (40, 41), (42, 43), (44, 45), (46, 47), (48, 49), (50, 51), (52, 53), (54, 55), (56, 57),
    (58, 59), (62, 63), (65, 66))


def _marker_swap() -> np.ndarray:
    swap = np.arange(67)
    for left, right in _MARKER_PAIRS:
        swap[left], swap[right] = right, left
    return swap


SWAP_67 = _marker_swap()
#: left-right partner of each of the 96 keypoints.
SWAP_96 = np.concatenate([SWAP_29, 29 + SWAP_67])


def twist_labels(pose: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """
    Twist of joints 1..23 about the rest bone to their inverse-kinematics child.

    pose (N, 24, 3) rotation vectors, rest (N, 29, 3) shaped rest joints and leaves. Returns
    (N, 23, 2): cosine and sine of the angle of R_tw, where R = R_sw R_tw and R_sw is the
    smallest rotation that takes the bone to its place.
    """
    bone = rest[:, IK_CHILD] - rest[:, 1:24]
    bone = bone / np.linalg.norm(bone, axis=-1, keepdims=True)
    angle = np.linalg.norm(pose[:, 1:], axis=-1)
    real = np.cos(0.5 * angle)
    # sin(a/2)/a without the division by zero of small angles
    along = 0.5 * np.sinc(0.5 * angle / np.pi) * np.einsum('njk,njk->nj', pose[:, 1:], bone)
    norm = np.maximum(real ** 2 + along ** 2, 1e-12)
    return np.stack(
        [(real ** 2 - along ** 2) / norm, 2 * real * along / norm], axis=-1).astype(np.float32)


def _mirror_rotations(rotmats: np.ndarray) -> np.ndarray:
    sign = np.float32([-1, 1, 1])
    return rotmats[:, SWAP_JOINTS] * sign[:, None] * sign


def flip_labels(labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """
    Labels of the mirrored person in the camera's own axes (x -> -x, left and right swapped).

    Takes and returns `rotmats` (N, 24, 3, 3), `joints3d` (N, 29, 3), `markers3d` (N, 67, 3),
    `rendered` (N, 96), `phi` (N, 23, 2); other entries are passed on.
    """
    mirror = np.float32([-1, 1, 1])
    body = SWAP_JOINTS[1:] - 1
    return {
        **labels,
        'rotmats': _mirror_rotations(labels['rotmats']),
        'joints3d': labels['joints3d'][:, SWAP_29] * mirror,
        'markers3d': labels['markers3d'][:, SWAP_67] * mirror,
        'rendered': labels['rendered'][:, SWAP_96],
        'phi': labels['phi'][:, body] * np.float32([1, -1])}


def turn_labels(labels: dict[str, np.ndarray], turns: np.ndarray) -> dict[str, np.ndarray]:
    """Labels after the picture turned about the optical axis by rotations `turns` (N, 2, 2)."""
    full = np.tile(np.eye(3, dtype=np.float32), (len(turns), 1, 1))
    full[:, :2, :2] = turns
    rotmats = labels['rotmats'].copy()
    rotmats[:, 0] = full @ rotmats[:, 0]
    back = full.transpose(0, 2, 1)
    return {**labels, 'rotmats': rotmats, 'joints3d': labels['joints3d'] @ back,
            'markers3d': labels['markers3d'] @ back}


def project(points: np.ndarray, focal: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Pixels `(N, K, 2)` of camera points `(N, K, 3)`; focal `(N,)`, centre `(N, 2)`."""
    return points[..., :2] / points[..., 2:] * focal[:, None, None] + centre[:, None]


def keypoint_targets(
        pixels: np.ndarray, depth: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Return `uvd` `(N, 96, 3)` and weights of crop pixels `(N, 96, 2)` and root depths `(N, 96)`.

    u and v are in [-0.5, 0.5] inside the crop; weights are 0 where any axis leaves that range.
    """
    uvd = np.concatenate(
        [pixels / size - 0.5, (depth / DEPTH_SCALE_M)[..., None]], axis=-1).astype(np.float32)
    inside = np.all(np.abs(uvd) <= 0.5, axis=-1, keepdims=True)
    return uvd, np.broadcast_to(inside, uvd.shape).astype(np.float32)
