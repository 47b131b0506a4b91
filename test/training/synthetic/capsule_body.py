# SPDX-License-Identifier: Apache-2.0
"""A body of 23 capsules in the SMPL layout, so that these tests need no model file."""

from __future__ import annotations

import functools

import numpy as np

from hmr_ros.body.model import BodyModel

PARENTS = np.array([-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20,
                    21])
_LEFT = {0: (0, 0, 0), 1: (.07, -.09, 0), 3: (0, .11, -.02), 4: (.10, -.47, 0),
         6: (0, .24, 0), 7: (.09, -.87, -.04), 9: (0, .30, .01), 10: (.11, -.93, .08),
         12: (0, .51, -.03), 13: (.08, .42, -.02), 15: (0, .60, .02), 16: (.17, .45, -.03),
         18: (.43, .44, -.05), 20: (.68, .44, -.05), 22: (.77, .43, -.06)}
_MIRROR = {1: 2, 4: 5, 7: 8, 10: 11, 13: 14, 16: 17, 18: 19, 20: 21, 22: 23}
#: end point and radius of each joint's capsule.
_ENDS = {0: ((0, .1, 0), .13), 1: ((.10, -.47, 0), .075), 3: ((0, .22, 0), .12),
         4: ((.09, -.87, -.04), .055), 6: ((0, .29, .01), .13), 7: ((.11, -.92, .08), .04),
         9: ((0, .44, -.02), .125), 10: ((.11, -.93, .15), .035), 12: ((0, .57, 0), .05),
         13: ((.16, .44, -.03), .06), 15: ((0, .72, .03), .09), 16: ((.43, .44, -.05), .045),
         18: ((.68, .44, -.05), .035), 20: ((.77, .43, -.06), .03), 22: ((.86, .42, -.05), .025)}


def _full(table: dict) -> dict:
    flip = np.float32([-1, 1, 1])
    out = {}
    for joint, value in table.items():
        out[joint] = value
        if joint in _MIRROR:
            out[_MIRROR[joint]] = (
                (np.float32(value[0]) * flip, value[1]) if isinstance(value[0], tuple)
                else np.float32(value) * flip)
    return out


def _capsule(start: np.ndarray, end: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A closed tube with round ends: (V, 3) vertices and (F, 3) outward faces."""
    start, end = np.float64(start), np.float64(end)
    axis = (end - start) / np.linalg.norm(end - start)
    side = np.cross(axis, [0.3, 0.5, 0.8])
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    polar = np.linspace(-np.pi / 2, np.pi / 2, 13)
    around = np.arange(16) / 16 * 2 * np.pi
    rings = []
    for p in polar:
        centre = (start if p < 0 else end) + axis * radius * np.sin(p)
        ring = np.outer(np.cos(around), side) + np.outer(np.sin(around), other)
        rings.append(centre + max(np.cos(p), 0.05) * radius * ring)
    faces = []
    for i in range(len(polar) - 1):
        for k in range(16):
            a, b = i * 16 + k, i * 16 + (k + 1) % 16
            faces += [(a, b, a + 16), (b, b + 16, a + 16)]
    return np.concatenate(rings), np.array(faces)


@functools.cache
def capsule_body() -> BodyModel:
    """Build the body once."""
    joints, ends = _full(_LEFT), _full(_ENDS)
    vertices, faces, owners, offset = [], [], [], 0
    for j in range(24):
        v, f = _capsule(joints[j], ends[j][0], ends[j][1])
        vertices.append(v)
        faces.append(f + offset)
        owners += [j] * len(v)
        offset += len(v)
    v, owners = np.concatenate(vertices).astype(np.float32), np.array(owners)
    regressor = np.zeros((24, len(v)), np.float32)
    for j in range(24):
        rows = np.flatnonzero(owners == j)[:96]  # the round start, centred near the joint
        regressor[j, rows] = 1 / len(rows)
    leaves = [np.linalg.norm(v - t, axis=1).argmin() for t in (
        (0, .81, .03), (.9, .42, -.05), (-.9, .42, -.05), (.11, -.94, .2), (-.11, -.94, .2))]
    weights = np.eye(24, dtype=np.float32)[owners]
    scale = v[..., None] * np.linspace(0.03, 0.005, 10, dtype=np.float32)
    markers = np.linspace(0, len(v) - 1, 67).astype(int)
    return BodyModel('capsules', '', v, scale.astype(np.float32), None, regressor, weights,
                     PARENTS, np.concatenate(faces).astype(np.int32), np.array(leaves), markers)
