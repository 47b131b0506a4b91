# SPDX-License-Identifier: Apache-2.0
"""The body's skeleton in torch: rest joints by shape, forward kinematics, rotations."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hmr_ros.body.model import BodyModel
from hmr_ros.perception.skeleton import LEVELS, PARENTS

#: shorter vectors become this long before they are divided by their length.
_TINY = 1e-6


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
    world, joints = {0: rotmats[..., 0, :, :]}, {0: torch.zeros_like(rest[..., 0, :])}
    for level in LEVELS:
        for joint in level:
            parent = int(PARENTS[joint])
            bone = (rest[..., joint, :] - rest[..., parent, :])[..., None]
            world[joint] = world[parent] @ rotmats[..., joint, :, :]
            joints[joint] = joints[parent] + (world[parent] @ bone)[..., 0]
    return torch.stack([joints[j] for j in range(24)], -2)


def matrices_from_6d(numbers: torch.Tensor) -> torch.Tensor:
    """Rotations `(..., 24, 3, 3)` of `(..., 144)`: two columns, row by row (rsc_net sheet 1.5)."""
    columns = numbers.unflatten(-1, (24, 3, 2))
    first = functional.normalize(columns[..., 0], dim=-1, eps=_TINY)
    second = columns[..., 1]
    second = second - (first * second).sum(-1, keepdim=True) * first
    second = functional.normalize(second, dim=-1, eps=_TINY)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


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
