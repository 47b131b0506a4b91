# SPDX-License-Identifier: Apache-2.0
"""A plausible rest skeleton and random poses for the tests of this room."""

import numpy as np
from scipy.spatial.transform import Rotation

_LEFT = {
    1: (.07, -.09, 0), 4: (.11, -.47, 0), 7: (.10, -.87, -.03), 10: (.13, -.93, .09),
    13: (.08, .33, -.01), 16: (.18, .36, -.02), 18: (.44, .35, -.05), 20: (.68, .36, -.05),
    22: (.76, .35, -.06), 25: (.87, .34, -.05), 27: (.14, -.94, .17)}
_MIRROR = {1: 2, 4: 5, 7: 8, 10: 11, 13: 14, 16: 17, 18: 19, 20: 21, 22: 23, 25: 26, 27: 28}
_MIDDLE = {
    0: (0, 0, 0), 3: (0, .11, -.02), 6: (0, .24, 0), 9: (0, .29, .02), 12: (0, .45, -.02),
    15: (0, .53, .03), 24: (0, .72, .01)}


def rest_skeleton(count=1, offset=(0.01, -0.24, 0.03)):
    """Return rest joints and leaves `(count, 29, 3)` float32 of slightly different people."""
    rest = np.zeros((29, 3))
    for joint, place in {**_LEFT, **_MIDDLE}.items():
        rest[joint] = place
    for left, right in _MIRROR.items():
        rest[right] = rest[left] * (-1, 1, 1)
    sizes = np.linspace(0.85, 1.15, count) if count > 1 else np.ones(1)
    return (rest[None] * sizes[:, None, None] + offset).astype(np.float32)


def random_rotations(count, sigma=0.6, seed=0):
    """Return joint rotations `(count, 24, 3, 3)` float32, axis-angle of deviation `sigma`."""
    vectors = np.random.default_rng(seed).normal(0, sigma, (count * 24, 3))
    return Rotation.from_rotvec(vectors).as_matrix().reshape(count, 24, 3, 3).astype(np.float32)


def point_body():
    """Return a BodyModel whose 29 vertices are its joints and leaves."""
    from hmr_ros.body.model import BodyModel
    from hmr_ros.perception.skeleton import PARENTS
    rest = rest_skeleton()[0]
    shapedirs = np.random.default_rng(11).normal(0, 0.002, (29, 3, 10)).astype(np.float32)
    weights = np.zeros((29, 24), np.float32)
    weights[np.arange(29), np.where(np.arange(29) < 24, np.arange(29), PARENTS)] = 1
    return BodyModel(
        name='points', sha256='0' * 64, v_template=rest, shapedirs=shapedirs, posedirs=None,
        J_regressor=np.eye(24, 29, dtype=np.float32), weights=weights, parents=PARENTS[:24],
        faces=np.zeros((0, 3), np.int32), leaf_vertices=np.arange(24, 29),
        marker_vertices=np.zeros(67, np.int64))
