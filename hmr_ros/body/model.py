# SPDX-License-Identifier: Apache-2.0
"""The body model at run time: SMPL-format linear blend skinning in numpy, many people at once."""

from __future__ import annotations

from dataclasses import dataclass
import functools

import numpy as np


class BodyError(RuntimeError):
    """A body model file or its use is wrong; the message names the file or array and the remedy."""


@dataclass(frozen=True)
class SkinnedModel:
    """
    A mesh of V vertices moved by J joints, with K shape coefficients; float32, metres.

    Own axes: x to the person's left, y up, z to the front.

    v_template  (V, 3)         vertices of the mean body at rest
    shapedirs   (V, 3, K)      vertex offsets for each coefficient
    posedirs    (9J - 9, V*3)  vertex offsets for R - I of joints 1.., None when there are none
    J_regressor (J, V)         joints of the shaped rest body
    weights     (V, J)         skinning weights, rows sum to 1
    parents     (J,)           parent of each joint, -1 for the root
    faces       (F, 3)         int32 vertex indices, counter-clockwise seen from outside
    """

    name: str
    sha256: str
    v_template: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray | None
    J_regressor: np.ndarray
    weights: np.ndarray
    parents: np.ndarray
    faces: np.ndarray

    @functools.cached_property
    def joint_template(self) -> np.ndarray:
        """Rest joints of the mean body, `(J, 3)`."""
        return self.J_regressor @ self.v_template

    @functools.cached_property
    def joint_shapedirs(self) -> np.ndarray:
        """Rest joint offsets for each coefficient, `(J, 3, K)`."""
        return np.einsum('jv,vck->jck', self.J_regressor, self.shapedirs)

    @functools.cached_property
    def _vertex_shapedirs(self) -> np.ndarray:
        return np.ascontiguousarray(self.shapedirs.reshape(-1, self.shapedirs.shape[-1]).T)

    def rest_joints(self, betas: np.ndarray) -> np.ndarray:
        """Joints `(N, J, 3)` of the shaped rest bodies for `betas` `(N, K)`."""
        return self.joint_template + np.einsum('jck,nk->njc', self.joint_shapedirs, betas)

    def pose_joints(
            self, rotmats: np.ndarray, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Forward kinematics without the mesh.

        rotmats (N, J, 3, 3) parent-relative, betas (N, K). Returns joints (N, J, 3) and global
        rotations (N, J, 3, 3), before any translation.
        """
        rest = self.rest_joints(betas)
        joints, world = np.empty_like(rest), np.empty_like(rotmats)
        joints[:, 0], world[:, 0] = rest[:, 0], rotmats[:, 0]
        for j in range(1, len(self.parents)):
            p = self.parents[j]
            world[:, j] = world[:, p] @ rotmats[:, j]
            bone = (rest[:, j] - rest[:, p])[..., None]
            joints[:, j] = joints[:, p] + (world[:, p] @ bone)[..., 0]
        return joints, world

    def skin(
            self, rotmats: np.ndarray, betas: np.ndarray,
            transl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Linear blend skinning (SMPL, Loper et al. 2015, section 3).

        rotmats (N, J, 3, 3) parent-relative, betas (N, K), transl (N, 3), all float32. Returns
        vertices (N, V, 3) and joints (N, J, 3) in metres, translation included.
        """
        count = len(rotmats)
        rest = self.rest_joints(betas)
        joints, world = self.pose_joints(rotmats, betas)
        shaped = self.v_template.ravel() + betas @ self._vertex_shapedirs
        if self.posedirs is not None:
            feature = (rotmats[:, 1:] - np.eye(3, dtype=np.float32)).reshape(count, -1)
            shaped += feature @ self.posedirs
        offset = joints - (world @ rest[..., None])[..., 0] + transl[:, None]
        transforms = np.concatenate([world, offset[..., None]], axis=-1).reshape(count, -1, 12)
        blended = (self.weights @ transforms).reshape(count, -1, 3, 4)
        shaped = shaped.reshape(count, -1, 3, 1)
        vertices = (blended[..., :3] @ shaped)[..., 0] + blended[..., 3]
        return vertices, joints + transl[:, None]

    def skin_few(
            self, vertices: np.ndarray, rotmats: np.ndarray,
            betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Few vertices of posed bodies, as `skin` gives all of them, before any translation.

        vertices (P,) indices, rotmats (N, J, 3, 3), betas (N, K). Returns points (N, P, 3) and the
        linear maps (N, P, 3, 3) that turn their normals, float32.
        """
        joints, world = self.pose_joints(rotmats, betas)
        rest = self.v_template[vertices] + np.einsum('kcs,ns->nkc', self.shapedirs[vertices], betas)
        if self.posedirs is not None:
            feature = (rotmats[:, 1:] - np.eye(3, dtype=np.float32)).reshape(len(rotmats), -1)
            columns = self.posedirs.reshape(len(self.posedirs), -1, 3)[:, vertices]
            rest = rest + np.einsum('nf,fkc->nkc', feature, columns)
        offset = joints - (world @ self.rest_joints(betas)[..., None])[..., 0]
        turns = np.einsum('kj,njab->nkab', self.weights[vertices], world)
        points = (turns @ rest[..., None])[..., 0] + self.weights[vertices] @ offset
        return points, turns


@dataclass(frozen=True)
class BodyModel(SkinnedModel):
    """
    An SMPL-format body: 24 joints and 10 shape coefficients.

    leaf_vertices   (5,)    head top, left / right middle fingertip, left / right big toe
    marker_vertices (67,)   marker vertices of keypoint_guided
    """

    leaf_vertices: np.ndarray
    marker_vertices: np.ndarray

    def rest_leaves(self, betas: np.ndarray) -> np.ndarray:
        """Leaf points `(N, 5, 3)` of the shaped rest bodies for `betas` `(N, 10)`."""
        index = self.leaf_vertices
        return self.v_template[index] + np.einsum('jck,nk->njc', self.shapedirs[index], betas)
