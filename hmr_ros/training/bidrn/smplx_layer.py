# SPDX-License-Identifier: Apache-2.0
"""Joints of SMPL-X bodies in torch, so that losses of them teach parameters."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.training.bidrn.joints import SUPERVISED
from hmr_ros.training.kinematics import forward_kinematics, matrices_from_axis_angles

#: joints of the model whose rotations `pose` has, in its order; eyes, 23 and 24, stay at rest.
POSED = (*range(22), *range(25, 55), 22)
#: neck to root, whose turns say which vertices are the contour of a face.
_NECK = (12, 9, 6, 3, 0)
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
        corners, shares, contour, contour_shares = _landmarks(body)
        # Of all vertices these few alone are skinned.
        used, place = np.unique(np.concatenate([
            body.extra_vertices, corners.ravel(), contour.ravel()]), return_inverse=True)
        extra, fixed, turning = np.split(
            place, np.cumsum([len(body.extra_vertices), corners.size]))
        regressor = body.J_regressor
        posedirs = np.zeros((9 * (len(self.parents) - 1), 0)) if body.posedirs is None else (
            body.posedirs.reshape(len(body.posedirs), -1, 3)[:, used].reshape(
                len(body.posedirs), -1))
        self._keep(
            rest=regressor @ body.v_template,
            rest_by_shape=np.einsum('jv,vcs->jcs', regressor, body.shapedirs),
            vertices=body.v_template[used], vertices_by_shape=body.shapedirs[used],
            posedirs=posedirs, skinning=body.weights[used], extra=extra,
            corners=fixed.reshape(corners.shape), shares=shares,
            contour=turning.reshape(contour.shape), contour_shares=contour_shares,
            hands_mean=np.concatenate([body.hands_meanl, body.hands_meanr]).reshape(-1, 3))

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
        return torch.cat([joints, vertices[:, self.extra], landmarks, contour], 1)

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
        turn = rotmats[:, _NECK[0]]
        for joint in _NECK[1:]:
            turn = rotmats[:, joint] @ turn
        side = torch.hypot(turn[:, 0, 0], turn[:, 1, 0])
        degrees = torch.round(torch.atan2(turn[:, 2, 0], side) * (180 / math.pi)).long()
        degrees = degrees.clamp(-_MOST_TURN, _MOST_TURN)
        # Rows of the table: 0 to 39 degrees, then -1 to -39.
        row = torch.where(degrees < 0, _MOST_TURN - degrees, degrees)
        row = row.clamp(max=len(self.contour) - 1)
        people = torch.arange(len(vertices), device=vertices.device)[:, None, None]
        corners = vertices[people, self.contour[row]]
        return (corners * self.contour_shares[row][..., None]).sum(2)


def _landmarks(body: WholeBodyModel) -> tuple[np.ndarray, ...]:
    """Corners and shares of the 51 landmarks `(51, 3)` and of the contour `(rows, 17, 3)`."""
    return (body.faces[body.lmk_faces_idx], body.lmk_bary_coords,
            body.faces[body.dynamic_lmk_faces_idx], body.dynamic_lmk_bary_coords)
