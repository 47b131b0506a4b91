# SPDX-License-Identifier: Apache-2.0
"""Shape of what is worn: cloth that stands off the body, skirts, long hair and bags."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from hmr_ros.training.synthetic import anatomy as an
from hmr_ros.training.synthetic import appearance as ap
from hmr_ros.training.synthetic.shading import (
    BAG_SHELL, HAIR_SHELL, SKIRT_SHELL, noise, slot_of)

_AROUND = 28


@dataclass(frozen=True)
class Shell:
    """An extra surface: vertices (V, 3), faces (F, 3), attributes (V, 10), parts (V,) uint8."""

    vertices: np.ndarray
    faces: np.ndarray
    attributes: np.ndarray
    parts: np.ndarray


@numba.njit(cache=True, nogil=True, fastmath=True)
def puff_up(
        vertices: np.ndarray, normals: np.ndarray, attributes: np.ndarray, cuts: np.ndarray,
        face: np.ndarray, collar: float, seed: int) -> None:
    """Move vertices `(V, 3)` out along their normals by the thickness of what covers them."""
    for i in range(vertices.shape[0]):
        at = attributes[i]
        slot = slot_of(at, cuts, face, collar, seed)
        thick = 0.0
        if slot == ap.TOP:
            thick = cuts[ap.LOOSE_TOP]
        elif slot == ap.BOTTOM:
            thick = cuts[ap.LOOSE_BOTTOM] * (0.6 + 0.3 * at[an.LEG] * at[an.LEG_AT])
        elif slot == ap.HAIR:
            thick = cuts[ap.HAIR_PUFF]
        elif slot == ap.HAT:
            thick = 0.012
        elif slot == ap.SHOE:
            thick = 0.005
        if slot == ap.TOP or slot == ap.BOTTOM or slot == ap.HAIR:
            thick *= 0.5 + noise(at[an.REST_X] * 11, at[an.REST_Y] * 11, at[an.REST_Z] * 11, seed)
        for k in range(3):
            vertices[i, k] += thick * normals[i, k]


def _tube(rings: np.ndarray, closed: bool = True) -> np.ndarray:
    """Faces of a tube, or of a sheet, through `rings` (R, K, 3), visible from both sides."""
    count, around = rings.shape[:2]
    i, k = np.meshgrid(np.arange(count - 1), np.arange(around if closed else around - 1),
                       indexing='ij')
    a, b = i * around + k, i * around + (k + 1) % around
    quads = np.stack([a, b, b + around, a + around], axis=-1).reshape(-1, 4)
    one = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return np.concatenate([one, one[:, ::-1]]).astype(np.int32)


def _shell(
        rings: np.ndarray, rest: np.ndarray, kind: int, parts: np.ndarray,
        closed: bool = True) -> Shell:
    attributes = np.zeros((rest.size // 3, an.ATTRIBUTES), np.float32)
    attributes[:, an.REST_X:an.REST_Z + 1] = rest.reshape(-1, 3)
    attributes[:, an.KIND] = kind
    return Shell(rings.reshape(-1, 3).astype(np.float32), _tube(rings, closed), attributes,
                 parts.astype(np.uint8).ravel())


def _leg_point(joints: np.ndarray, chain: tuple[int, ...], at: float) -> np.ndarray:
    i = min(int(at), 1)
    return joints[chain[i]] + (at - i) * (joints[chain[i + 1]] - joints[chain[i]])


def skirt(
        joints: np.ndarray, rotation: np.ndarray, cuts: np.ndarray, radius: np.ndarray) -> Shell:
    """
    Cloth round both legs of a posed body: each ring is the hull of the two thighs or shins.

    joints (29, 3) posed, rotation (3, 3) of the pelvis, radius (2,): half widths of the hips
    sideways and front to back, metres.
    """
    levels = np.linspace(-0.42, cuts[ap.SKIRT], 14)
    angles = np.arange(_AROUND) / _AROUND * 2 * np.pi
    rings, rest = np.empty((len(levels), _AROUND, 3)), np.empty((len(levels), _AROUND, 3))
    for r, level in enumerate(levels):
        at = max(level, 0.0)
        left, right = (_leg_point(joints, chain, at) for chain in ((1, 4, 7), (2, 5, 8)))
        # The cross-section turns from level at the hips to square with the legs.
        below = 0.5 * sum(_leg_point(joints, c, at + 0.05) for c in ((1, 4, 7), (2, 5, 8)))
        axis = below - 0.5 * (left + right)
        axis = axis / np.linalg.norm(axis) - max(0.0, 0.6 - at) * 2.5 * rotation[:, 1]
        axis /= np.linalg.norm(axis)
        side = rotation[:, 0] - (rotation[:, 0] @ axis) * axis
        side /= np.linalg.norm(side)
        front = np.cross(side, axis)
        lift = min(level, 0.0) * (joints[1] - joints[4])
        wide = 0.5 * radius.mean() * (1.15 - 0.12 * at) + cuts[ap.SKIRT_FLARE] * at
        deep = radius[1] * (1.03 - 0.2 * min(at, 1)) + cuts[ap.SKIRT_FLARE] * at
        if level < 0:
            wide, deep = wide * (1 + 0.35 * level), deep * (1 + 0.35 * level)
        for k, angle in enumerate(angles):
            c, s = np.cos(angle), np.sin(angle)
            base = left if side @ (left - right) * c > 0 else right
            pleat = 1 + 0.06 * max(level, 0) * np.sin(7 * angle + cuts[ap.HEM] * 90)
            rings[r, k] = base - lift + pleat * (wide * c * side + deep * s * front)
            rest[r, k] = (0.18 * c, -0.05 - 0.42 * level, 0.16 * s)
    parts = np.where(np.cos(angles) > 0, 1, 2)[None].repeat(len(levels), axis=0)
    return _shell(rings, rest, SKIRT_SHELL, parts)


def long_hair(
        head: np.ndarray, trunk: np.ndarray, head_at: np.ndarray, trunk_at: np.ndarray,
        anatomy: an.Anatomy, cuts: np.ndarray) -> Shell:
    """
    Hair that falls behind the head and over the back.

    head, trunk (3, 3) posed rotations of joints 15 and 9, head_at, trunk_at (3,) their places.
    """
    face, length = anatomy.face, cuts[ap.HAIR_LENGTH]
    top = face[3] + 0.45 * (face[3] - face[0])
    levels, angles = np.linspace(0, 1, 9), np.linspace(-2.0, 2.0, 19)
    grid_l, grid_a = np.meshgrid(levels, angles, indexing='ij')
    radius = (0.9 * face[7] + 0.012 + cuts[ap.HAIR_PUFF]) * np.minimum(1, 0.55 + 2.2 * grid_l)
    radius *= 1 - 0.25 * np.maximum(grid_l - 0.5, 0)
    rest = np.stack([0.86 * radius * np.sin(grid_a),
                     top - grid_l * (top - face[0] + length),
                     face[6] - radius * np.cos(grid_a)], axis=-1)
    hang = np.clip((face[0] - rest[..., 1]) / 0.2, 0, 1)[..., None]
    with_head = (rest - anatomy.joints[15]) @ head.T + head_at
    with_trunk = (rest - anatomy.joints[9]) @ trunk.T + trunk_at
    return _shell((1 - hang) * with_head + hang * with_trunk, rest, HAIR_SHELL,
                  np.full(grid_l.shape, 15), closed=False)


def backpack(trunk: np.ndarray, trunk_at: np.ndarray, anatomy: an.Anatomy, size: float) -> Shell:
    """Build a rounded box on the back; trunk (3, 3) and trunk_at (3,) place joint 9."""
    levels = np.linspace(-1, 1, 9)
    angles = np.arange(20) / 20 * 2 * np.pi
    width = (1 - np.abs(levels[:, None]) ** 6) ** 0.5 + 0.02
    squared = np.stack([np.sign(f) * np.abs(f) ** 0.5 for f in (np.cos(angles), np.sin(angles))])
    rest = np.empty((len(levels), len(angles), 3))
    rest[..., 0] = 0.14 * size * width * squared[0]
    rest[..., 1] = anatomy.joints[9][1] - 0.02 + 0.21 * size * levels[:, None]
    rest[..., 2] = anatomy.joints[9][2] - 0.12 - 0.08 * size + 0.08 * size * width * squared[1]
    posed = (rest - anatomy.joints[9]) @ trunk.T + trunk_at
    return _shell(posed, rest, BAG_SHELL, np.full(rest.shape[:2], 9))
