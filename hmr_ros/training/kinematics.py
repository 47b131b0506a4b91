# SPDX-License-Identifier: Apache-2.0
"""The body's skeleton in torch: rest joints by shape, forward kinematics, rotations."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hmr_ros.body.model import BodyModel
from hmr_ros.perception.skeleton import PARENTS

#: shorter vectors become this long before they are divided by their length.
_TINY = 1e-6
#: squares of angles below which series take the place of quotients.
_SMALL = 1e-8


class RestSkeleton(nn.Module):
    """24 joints and 5 leaves of a body at rest, which are affine in its shape; has no weights."""

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        betas = np.concatenate([np.zeros((1, 10)), np.eye(10)]).astype(np.float32)
        rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], axis=1)
        rest = torch.from_numpy(rest.astype(np.float32))
        self.register_buffer('rest', rest[0], persistent=False)
        self.register_buffer('rest_by_betas', rest[1:] - rest[0], persistent=False)

    def forward(self, betas: torch.Tensor) -> torch.Tensor:
        """Points `(..., 29, 3)` in metres for betas `(..., 10)`."""
        return self.rest + torch.einsum('...b,bkc->...kc', betas, self.rest_by_betas)


def pose_joints(rotmats: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    """
    Forward kinematics: joints `(..., 24, 3)` relative to joint 0.

    rotmats (..., 24, 3, 3) parent-relative, rest (..., 24 or 29, 3).
    """
    joints, _ = forward_kinematics(rotmats, rest[..., :24, :], tuple(PARENTS[:24].tolist()))
    return joints - joints[..., :1, :]


def forward_kinematics(
        rotmats: torch.Tensor, rest: torch.Tensor,
        parents: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Joints `(..., J, 3)` and their rotations in the world `(..., J, 3, 3)` of any skeleton.

    rotmats (..., J, 3, 3) parent-relative, rest (..., J, 3); joint 0, the root, stays where it is
    at rest; its parent is -1.
    """
    levels, places = _levels(parents)
    joints, world = [rest[..., :1, :]], [rotmats[..., :1, :, :]]
    for level, above in levels:
        turned = world[-1][..., above, :, :]
        bones = rest[..., level, :] - rest[..., [parents[joint] for joint in level], :]
        joints.append(joints[-1][..., above, :] + (turned @ bones[..., None])[..., 0])
        world.append(turned @ rotmats[..., level, :, :])
    return torch.cat(joints, -2)[..., places, :], torch.cat(world, -3)[..., places, :, :]


@functools.cache
def _levels(
        parents: tuple[int, ...]) -> tuple[tuple[tuple[list[int], list[int]], ...], list[int]]:
    """
    Joints behind the root by depth, each with the place of its parent in the level before.

    Also returns where each joint is when all levels stand in a row.
    """
    levels = [[0]]
    while True:
        level = [joint for joint, parent in enumerate(parents) if parent in levels[-1]]
        if not level:
            break
        levels.append(level)
    row = [joint for level in levels for joint in level]
    return tuple((level, [before.index(parents[joint]) for joint in level])
                 for before, level in zip(levels, levels[1:])), [
        row.index(joint) for joint in range(len(parents))]


def matrices_from_6d(numbers: torch.Tensor) -> torch.Tensor:
    """Rotations `(..., J, 3, 3)` of `(..., 6 J)`: two columns, row by row (rsc_net sheet 1.5)."""
    columns = numbers.unflatten(-1, (-1, 3, 2))
    first = functional.normalize(columns[..., 0], dim=-1, eps=_TINY)
    second = columns[..., 1]
    second = second - (first * second).sum(-1, keepdim=True) * first
    second = functional.normalize(second, dim=-1, eps=_TINY)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def matrices_from_axis_angles(vectors: torch.Tensor) -> torch.Tensor:
    """Rotations `(..., 3, 3)` of axis-angle vectors `(..., 3)`, radians; smooth at zero."""
    square = (vectors ** 2).sum(-1)[..., None, None]
    small = square < _SMALL
    angle = torch.where(small, 1.0, square).sqrt()
    sine = torch.where(small, 1 - square / 6, angle.sin() / angle)
    versine = torch.where(
        small, 0.5 - square / 24, 0.5 * ((0.5 * angle).sin() / (0.5 * angle)) ** 2)
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return identity + sine * cross + versine * (cross @ cross)


def axis_angles(rotmats: torch.Tensor) -> torch.Tensor:
    """Axis-angle vectors `(..., 3)`, at most half a turn, of rotations `(..., 3, 3)`."""
    found = quaternions(rotmats)
    # Of both signs the one of the shorter turn.
    found = torch.where(found[..., :1] < 0, -found, found)
    real, vector = found[..., :1], found[..., 1:]
    square = (vector ** 2).sum(-1, keepdim=True)
    small = square < _SMALL
    length = torch.where(small, 1.0, square).sqrt()
    return vector * torch.where(small, 2.0, 2 * torch.atan2(length, real) / length)


def quaternions(rotmats: torch.Tensor) -> torch.Tensor:
    """
    Unit quaternions `(..., 4)`, w first, of rotations `(..., 3, 3)`; the sign is arbitrary.

    Of the four ways to read one off a matrix, the best conditioned is taken.
    """
    m = rotmats
    a, b, c = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    x, y, z = (m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0],
               m[..., 1, 0] - m[..., 0, 1])
    p, q, r = (m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0],
               m[..., 2, 1] + m[..., 1, 2])
    rows = torch.stack([
        torch.stack([1 + a + b + c, x, y, z], -1), torch.stack([x, 1 + a - b - c, p, q], -1),
        torch.stack([y, p, 1 - a + b - c, r], -1), torch.stack([z, q, r, 1 - a - b + c], -1)], -2)
    best = torch.diagonal(rows, dim1=-2, dim2=-1).argmax(-1)
    chosen = torch.take_along_dim(rows, best[..., None, None], -2)[..., 0, :]
    return functional.normalize(chosen, dim=-1)
