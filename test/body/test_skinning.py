# SPDX-License-Identifier: Apache-2.0
"""Numpy skinning against the smplx package on the same file."""

from __future__ import annotations

from hmr_ros.body import load_body
from hmr_ros.body.loading import OPEN_BODY
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.torch


def smplx_model() -> object:
    """Load the open body's file as smplx loads SMPL."""
    import smplx
    with np.load(OPEN_BODY) as file:
        data = smplx.utils.Struct(**{name: file[name] for name in file.files})
    return smplx.SMPL('', data_struct=data, batch_size=1)


def test_vertices_and_joints_equal_smplx() -> None:
    import torch
    body, reference = load_body(), smplx_model()
    rng = np.random.default_rng(3)
    pose = rng.normal(0, 0.6, (100, 24, 3)).astype(np.float32)
    betas = rng.normal(0, 1.5, (100, 10)).astype(np.float32)
    transl = rng.normal(0, 2, (100, 3)).astype(np.float32)
    rotmats = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix()
    rotmats = rotmats.reshape(100, 24, 3, 3).astype(np.float32)
    vertices, joints = body.skin(rotmats, betas, transl)
    with torch.no_grad():
        expected = reference(
            betas=torch.from_numpy(betas), transl=torch.from_numpy(transl),
            global_orient=torch.from_numpy(pose[:, 0]),
            body_pose=torch.from_numpy(pose[:, 1:].reshape(100, 69)))
    np.testing.assert_allclose(vertices, expected.vertices.numpy(), atol=1e-5)
    np.testing.assert_allclose(joints, expected.joints[:, :24].numpy(), atol=1e-5)


def test_pose_correctives_equal_smplx() -> None:
    import dataclasses

    import smplx
    import torch
    body = load_body()
    rng = np.random.default_rng(4)
    posedirs = rng.normal(0, 1e-3, (len(body.v_template), 3, 207)).astype(np.float32)
    with np.load(OPEN_BODY) as file:
        arrays = {name: file[name] for name in file.files}
    reference = smplx.SMPL('', data_struct=smplx.utils.Struct(**{**arrays, 'posedirs': posedirs}))
    body = dataclasses.replace(body, posedirs=np.ascontiguousarray(posedirs.reshape(-1, 207).T))
    pose = rng.normal(0, 0.5, (1, 24, 3)).astype(np.float32)
    rotmats = Rotation.from_rotvec(pose[0]).as_matrix()[None].astype(np.float32)
    betas, transl = np.zeros((1, 10), np.float32), np.zeros((1, 3), np.float32)
    vertices, _ = body.skin(rotmats, betas, transl)
    with torch.no_grad():
        expected = reference(
            global_orient=torch.from_numpy(pose[:, 0]),
            body_pose=torch.from_numpy(pose[:, 1:].reshape(1, 69)))
    np.testing.assert_allclose(vertices, expected.vertices.numpy(), atol=1e-5)
