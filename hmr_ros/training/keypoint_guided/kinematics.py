# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics in torch, as training uses it: naive targets, no decomposition (sheet 2.5)."""

from __future__ import annotations

import torch
from torch.nn import functional

from hmr_ros.perception.skeleton import LEVELS, PARENTS, SWING_CHILDREN

_TINY = 1e-8


def naive_rotations(points: torch.Tensor, rest: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
    """
    Parent-relative rotations `(N, 24, 3, 3)` of observed joints.

    points `(N, 29, 3)` metres relative to joint 0, detached by the caller; rest `(N, 29, 3)`;
    phi `(N, 23, 2)` of any length. The gradient reaches `rest` and `phi`.
    """
    bones = rest[:, 1:] - rest[:, PARENTS[1:]]
    bones = torch.cat([torch.zeros_like(bones[:, :1]), bones], 1)
    twists = phi / (phi.norm(dim=-1, keepdim=True) + _TINY)
    local = {0: _root(points, bones)}
    world = dict(local)
    for joints in LEVELS:
        above = torch.stack([world[int(PARENTS[j])] for j in joints], 1)
        children = SWING_CHILDREN[joints]
        bone = bones[:, children]
        target = points[:, children] - points[:, joints]
        target = (above.transpose(-1, -2) @ target[..., None])[..., 0]
        twist = twists[:, joints - 1]
        axis = functional.normalize(bone, dim=-1)
        rotation = _swing(bone, target) @ _turn(axis, twist[..., :1], twist[..., 1:])
        for i, joint in enumerate(joints):
            local[int(joint)] = rotation[:, i]
            world[int(joint)] = above[:, i] @ rotation[:, i]
    return torch.stack([local[j] for j in range(24)], 1)


def _root(points: torch.Tensor, bones: torch.Tensor) -> torch.Tensor:
    """Swing the spine onto its target, then turn about it until the hips match."""
    swing = _swing(bones[:, 3], points[:, 3])
    axis = functional.normalize(points[:, 3], dim=-1)
    rest_hips = (swing @ (bones[:, 1] - bones[:, 2])[..., None])[..., 0]
    hips = points[:, 1] - points[:, 2]
    rest_hips, hips = (v - (v * axis).sum(-1, keepdim=True) * axis for v in (rest_hips, hips))
    cosine = (rest_hips * hips).sum(-1, keepdim=True)
    sine = (torch.linalg.cross(rest_hips, hips) * axis).sum(-1, keepdim=True)
    length = torch.sqrt(cosine ** 2 + sine ** 2) + _TINY
    return _turn(axis, cosine / length, sine / length) @ swing


def _swing(bones: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the smallest rotations that turn `bones` into the directions `targets`."""
    length = bones.norm(dim=-1, keepdim=True) * targets.norm(dim=-1, keepdim=True) + _TINY
    axis = torch.linalg.cross(bones, targets)
    cosine = (bones * targets).sum(-1, keepdim=True) / length
    # The norm of a vector has no gradient at zero; parallel bones have a zero axis.
    sine = torch.sqrt((axis ** 2).sum(-1, keepdim=True) + _TINY ** 2)
    return _turn(axis / sine, cosine, sine / length)


def _turn(axis: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotations `(..., 3, 3)` about unit axes `(..., 3)`; cosine and sine `(..., 1)`."""
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=axis.dtype, device=axis.device)
    return identity + sine[..., None] * cross + (1 - cosine[..., None]) * (cross @ cross)
