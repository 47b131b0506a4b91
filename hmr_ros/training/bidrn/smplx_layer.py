# SPDX-License-Identifier: Apache-2.0
"""Joints of SMPL-X bodies in torch, so that losses of them teach parameters."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.body.whole_body_joints import NECK, SUPERVISED
from hmr_ros.training.kinematics import forward_kinematics, matrices_from_axis_angles

#: the contour's table goes this many degrees to each side.
_MOST_TURN = 39


class WholeBodyJoints(nn.Module):
    """
    Linear blend skinning of what the joints need, a few hundred vertices (Pavlakos et al. 2019).

    Has no weights.
    """

    def __init__(self, body: WholeBodyModel) -> None:
        super().__init__()
        self.parents = tuple(int(parent) for parent in body.parents)
        # Of all vertices these few alone are skinned.
        used, place = np.unique(np.concatenate([
            body.named_vertices, body.landmarks.ravel(), body.contour.ravel()]),
            return_inverse=True)
        named, corners, turning = np.split(
            place, np.cumsum([len(body.named_vertices), body.landmarks.size]))
        regressor = body.J_regressor
        self._keep(
            rest=regressor @ body.v_template,
            rest_by_shape=np.einsum('jv,vcs->jcs', regressor, body.shapedirs),
            vertices=body.v_template[used], vertices_by_shape=body.shapedirs[used],
            posedirs=_bends(body, used), skinning=body.weights[used], named=named,
            corners=corners.reshape(body.landmarks.shape), shares=body.landmark_share,
            contour=turning.reshape(body.contour.shape), contour_shares=body.contour_share,
            hands_mean=body.hands_mean.reshape(-1, 3))

    def _keep(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            self.register_buffer(
                name, tensor.float() if tensor.is_floating_point() else tensor.long(),
                persistent=False)

    def forward(
            self, pose: torch.Tensor, betas: torch.Tensor,
            expression: torch.Tensor) -> torch.Tensor:
        """
        The 137 joints `(N, 137, 3)` in metres; the root turns about the pelvis at rest.

        pose `(N, 53, 3)` axis-angle: 22 of the body, 15 of each hand relative to the mean hand,
        jaw; betas and expression `(N, 10)`
        """
        return self.all_joints(pose, betas, expression)[:, SUPERVISED]

    def all_joints(
            self, pose: torch.Tensor, betas: torch.Tensor,
            expression: torch.Tensor) -> torch.Tensor:
        """Do the same for the 144 joints of the package smplx, in its order."""
        rotmats = self._rotations(pose)
        shape = torch.cat([betas, expression], 1)
        rest = self.rest + torch.einsum('jcs,ns->njc', self.rest_by_shape, shape)
        joints, world = forward_kinematics(rotmats, rest, self.parents)
        vertices = self._skinned(rotmats, rest, joints, world, shape)
        landmarks = (vertices[:, self.corners] * self.shares[..., None]).sum(2)
        contour = self._contour(rotmats, vertices)
        return torch.cat([joints, vertices[:, self.named], landmarks, contour], 1)

    def _rotations(self, pose: torch.Tensor) -> torch.Tensor:
        """All 55 rotations `(N, 55, 3, 3)`."""
        hands = pose[:, 22:52] + self.hands_mean
        eyes = pose.new_zeros(len(pose), 2, 3)
        return matrices_from_axis_angles(torch.cat([pose[:, :22], pose[:, 52:], eyes, hands], 1))

    def _skinned(
            self, rotmats: torch.Tensor, rest: torch.Tensor, joints: torch.Tensor,
            world: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        vertices = self.vertices + torch.einsum('vcs,ns->nvc', self.vertices_by_shape, shape)
        if self.posedirs.shape[1]:
            bends = (rotmats[:, 1:] - torch.eye(3, device=rotmats.device)).flatten(1)
            vertices = vertices + (bends @ self.posedirs).unflatten(1, (-1, 3))
        offset = joints - (world @ rest[..., None])[..., 0]
        moves = torch.cat([world, offset[..., None]], -1).flatten(2)
        blended = (self.skinning @ moves).unflatten(2, (3, 4))
        return (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]

    def _contour(self, rotmats: torch.Tensor, vertices: torch.Tensor) -> torch.Tensor:
        """Points `(N, 17, 3)` where a face ends, as its turn about the vertical has it."""
        turn, joint = rotmats[:, NECK], self.parents[NECK]
        while joint >= 0:
            turn, joint = rotmats[:, joint] @ turn, self.parents[joint]
        side = torch.hypot(turn[:, 0, 0], turn[:, 1, 0])
        degrees = torch.round(torch.atan2(turn[:, 2, 0], side) * (180 / math.pi)).long()
        degrees = degrees.clamp(-_MOST_TURN, _MOST_TURN)
        # Rows of the table: 0 to 39 degrees, then -1 to -39.
        row = torch.where(degrees < 0, _MOST_TURN - degrees, degrees)
        people = torch.arange(len(vertices), device=vertices.device)[:, None, None]
        corners = vertices[people, self.contour[row]]
        return (corners * self.contour_shares[row][..., None]).sum(2)


def _bends(body: WholeBodyModel, used: np.ndarray) -> np.ndarray:
    """Offsets `(486, 3 U)` of the vertices `used` for each bend; `(486, 0)` without any."""
    if body.posedirs is None:
        return np.zeros((9 * (len(body.parents) - 1), 0))
    return body.posedirs.reshape(len(body.posedirs), -1, 3)[:, used].reshape(
        len(body.posedirs), -1)
