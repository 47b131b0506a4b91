# SPDX-License-Identifier: Apache-2.0
"""The objective of the temporal networks (sheet 3.6): bodies, their movement, an adversary."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from hmr_ros.body.model import BodyModel
from hmr_ros.networks.rsc_net.discriminator import BODY_WIDTH
from hmr_ros.training.kinematics import (
    matrices_from_6d, pose_joints, quaternions, RestSkeleton)

#: of the crop camera: focal length over the half side, and what keeps its division finite (1.4).
_FOCAL, _TINY = 5000.0 / 112.0, 1e-3


class Motion(NamedTuple):
    """Rotations (N, T, 24, 3, 3) and joints (N, T, 24, 3) in metres, relative to joint 0."""

    rotmats: torch.Tensor
    joints: torch.Tensor


class TemporalLosses(nn.Module):
    """Terms by name, not weighted; `body` gives the rest joints."""

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        self.rest = RestSkeleton(body)

    def motion(self, rotmats: torch.Tensor, betas: torch.Tensor) -> Motion:
        """Pose bodies: rotations `(N, T, 24, 3, 3)`, betas `(N, T, 10)`."""
        return Motion(rotmats, pose_joints(rotmats, self.rest(betas)))

    def forward(
            self, pose6d: torch.Tensor, betas: torch.Tensor,
            batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], Motion, Motion]:
        """
        Return the terms of a prediction, its motion and the true one.

        pose6d (N, T, 144), betas (N, T, 10); labels `rotmats` (N, T, 24, 3, 3), `shape` (N, 10).
        """
        shape = batch['shape'][:, None].expand_as(betas)
        found = self.motion(matrices_from_6d(pose6d), betas)
        true = self.motion(batch['rotmats'], shape)
        terms = {
            'joints3d': (found.joints - true.joints).square().mean(),
            'pose': (found.rotmats - true.rotmats).square().mean(),
            'betas': (betas - shape).square().mean(),
            'acceleration': (_bend(found.joints) - _bend(true.joints)).norm(dim=-1).mean()}
        return terms, found, true


def projection_error(
        joints: torch.Tensor, cam: torch.Tensor, joints2d: torch.Tensor) -> torch.Tensor:
    """
    Squared distance of joints `(N, T, 24, 3)` seen by the crop camera from `joints2d` (sheet 1.4).

    cam (N, T, 3) is s, tx, ty; joints2d (N, T, 24, 2) lies in -1 to 1, as does the distance.
    """
    s, lateral = cam[..., None, :1].clamp(min=_TINY), cam[..., None, 1:]
    depth = (joints[..., 2:] + _FOCAL / s).clamp(min=_TINY)
    return (_FOCAL * (joints[..., :2] + lateral) / depth - joints2d).square().mean()


def body_axis_angles(rotmats: torch.Tensor) -> torch.Tensor:
    """What the discriminator sees, `(N, T, 69)`: rotation vectors of the 23 body joints."""
    quaternion = quaternions(rotmats[..., 1:, :, :])
    # Of the two signs, the one whose angle is at most half a turn.
    quaternion = quaternion * torch.where(quaternion[..., :1] < 0, -1.0, 1.0)
    vector = quaternion[..., 1:]
    # The norm of a vector has no gradient at zero.
    sine = vector.square().sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    return (vector * (angle / sine)).flatten(-2).reshape(*rotmats.shape[:2], BODY_WIDTH)


def real_error(score: torch.Tensor) -> torch.Tensor:
    """LSGAN: squared distance of scores `(N, 1)` from 1, what recorded motion is meant to get."""
    return (score - 1).square().mean()


def fake_error(score: torch.Tensor) -> torch.Tensor:
    """LSGAN: squared distance of scores `(N, 1)` from 0."""
    return score.square().mean()


def _bend(joints: torch.Tensor) -> torch.Tensor:
    """Second differences over time, as ACC takes them."""
    return joints[:, 2:] - 2 * joints[:, 1:-1] + joints[:, :-2]
