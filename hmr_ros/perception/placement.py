# SPDX-License-Identifier: Apache-2.0
"""Where a posed body stands: the place that shows its joints where the network saw them."""

from __future__ import annotations

import numpy as np

#: trust in the depth that the network says itself, beside joints of confidence 1.
_DEPTH_TRUST = 0.5
#: keeps a body in its place whose joints nobody is sure of.
_PLACE_TRUST = 0.01


def fit_roots(
        joints: np.ndarray, rays: np.ndarray, confidence: np.ndarray,
        roots: np.ndarray) -> np.ndarray:
    """
    Place bodies so that their joints meet the rays of the keypoints: linear least squares.

    Inverse kinematics keeps the bones' lengths, so a body whose pelvis is where it was seen shows
    its hands and feet elsewhere. Joint (x, y, z) meets the ray (a, b, 1) where x + t_x =
    a (z + t_z) and y + t_y = b (z + t_z).

    joints      (N, K, 3)  metres relative to the root
    rays        (N, K, 2)  seen pixels as (pixel - principal point) / focal length
    confidence  (N, K)     weights of the joints, 0 to 1
    roots       (N, 3)     metres in the optical frame, where the network has them; its depth counts

    Returns roots (N, 3) float64; a fit that would halve or double the depth is not used.
    """
    joints, rays = np.asarray(joints, np.float64), np.asarray(rays, np.float64)
    weight = np.asarray(confidence, np.float64)[..., None] ** 2
    # Rows (1, 0, -a) and (0, 1, -b), each with its right side, as sums over the joints.
    right = rays * joints[..., 2:] - joints[..., :2]
    left, side = np.zeros((len(joints), 3, 3)), np.zeros((len(joints), 3))
    left[:, 0, 0] = left[:, 1, 1] = weight.sum((1, 2))
    left[:, :2, 2] = left[:, 2, :2] = -(weight * rays).sum(1)
    left[:, 2, 2] = (weight * rays ** 2).sum((1, 2))
    side[:, :2] = (weight * right).sum(1)
    side[:, 2] = -(weight * rays * right).sum((1, 2))
    trust = np.float64([_PLACE_TRUST, _PLACE_TRUST, _DEPTH_TRUST]) ** 2
    fitted = np.linalg.solve(left + np.diag(trust), (side + trust * roots)[..., None])[..., 0]
    ratio = fitted[:, 2:] / roots[:, 2:]
    return np.where((ratio > 0.5) & (ratio < 2), fitted, roots)
