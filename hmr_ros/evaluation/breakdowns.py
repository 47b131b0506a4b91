# SPDX-License-Identifier: Apache-2.0
"""Accuracy by what makes people hard: distance, the side they show, what hides them."""

from __future__ import annotations

import numpy as np

from hmr_ros.evaluation.held_out import Truth
from hmr_ros.evaluation.metrics import LIMB_JOINTS

#: borders of the groups: metres, degrees from facing the camera, share of limb joints hidden.
GROUPS = {
    'distance_m': (0.0, 3.0, 5.0, 8.0, 12.0, np.inf),
    'yaw_deg': (0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.1),
    'hidden': (0.0, 1e-9, 0.25, 0.5, 0.75, 1.1)}


def attributes(truth: Truth) -> dict[str, np.ndarray]:
    """Distance, yaw and hidden share `(N,)` of each person, by name of GROUPS."""
    # The body faces along the third axis of its root; towards the camera is -z.
    front = truth.rotmats[:, 0, :, 2]
    to_camera = -truth.joints3d[:, 0]
    across = np.linalg.norm(np.cross(front, to_camera), axis=1)
    yaw = np.degrees(np.arctan2(across, np.sum(front * to_camera, axis=1)))
    seen = truth.seen[:, LIMB_JOINTS] & truth.inside[:, LIMB_JOINTS]
    return {'distance_m': np.linalg.norm(truth.joints3d[:, 0], axis=1), 'yaw_deg': yaw,
            'hidden': 1 - seen.mean(axis=1)}
