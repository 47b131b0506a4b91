# SPDX-License-Identifier: Apache-2.0
"""Labels of a person in a camera, and what a mirror or a turn of the picture does to them."""

from __future__ import annotations

import numpy as np

from hmr_ros.body.markers import marker_swap
from hmr_ros.perception.inverse_kinematics import twist_angles
from hmr_ros.perception.keypoint_guided import DEPTH_SCALE_M
from hmr_ros.training.synthetic.poses import SWAP_JOINTS

SWAP_29 = np.concatenate([SWAP_JOINTS, [24, 26, 25, 28, 27]])
SWAP_67 = marker_swap()
#: left-right partner of each of the 96 keypoints.
SWAP_96 = np.concatenate([SWAP_29, 29 + SWAP_67])


def twist_labels(rotmats: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """
    Cosine and sine `(N, 23, 2)` of the twists of joints 1..23; see `twist_angles`.

    rotmats (N, 24, 3, 3) parent-relative, rest (N, 29, 3) shaped rest joints and leaves.
    """
    angles = twist_angles(rotmats, rest)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)


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
