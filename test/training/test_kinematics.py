# SPDX-License-Identifier: Apache-2.0
"""The skeleton in torch against the body model's own and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip('torch', reason='training needs torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.perception import rotations  # noqa: E402
from hmr_ros.training.kinematics import (  # noqa: E402
    axis_angles, matrices_from_6d, matrices_from_axis_angles, pose_joints, RestSkeleton)

pytestmark = pytest.mark.torch


def test_joints_are_those_of_the_body_model() -> None:
    body, rng = load_body(), np.random.default_rng(0)
    rotmats = Rotation.random(4 * 24, rng).as_matrix().reshape(4, 24, 3, 3).astype(np.float32)
    betas = rng.normal(size=(4, 10)).astype(np.float32)
    rest = RestSkeleton(body)(torch.from_numpy(betas))
    np.testing.assert_allclose(rest[:, :24], body.rest_joints(betas), atol=1e-6)
    np.testing.assert_allclose(rest[:, 24:], body.rest_leaves(betas), atol=1e-6)
    joints = pose_joints(torch.from_numpy(rotmats), rest).numpy()
    expected, _ = body.pose_joints(rotmats, betas)
    np.testing.assert_allclose(joints, expected - expected[:, :1], atol=1e-5)


def test_six_numbers_are_read_as_the_live_path_reads_them() -> None:
    numbers = np.random.default_rng(1).normal(size=(5, 24, 6)).astype(np.float32)
    found = matrices_from_6d(torch.from_numpy(numbers).flatten(1)).numpy()
    np.testing.assert_allclose(found, rotations.matrix_from_6d(numbers), atol=1e-5)


def test_no_numbers_at_all_stay_finite() -> None:
    numbers = torch.zeros(2, 144, requires_grad=True)
    matrices_from_6d(numbers).sum().backward()
    assert torch.isfinite(numbers.grad).all()


def test_axis_angles_are_those_of_scipy() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(500, 3)) * np.array([[1e-9], [1e-4], [0.1], [1.0], [3.0]]).repeat(
        100, 0)
    found = matrices_from_axis_angles(torch.from_numpy(vectors))
    expected = Rotation.from_rotvec(vectors)
    np.testing.assert_allclose(found, expected.as_matrix(), atol=1e-7)
    np.testing.assert_allclose(axis_angles(found), expected.as_rotvec(), atol=1e-7)


def test_axis_angles_teach_everywhere() -> None:
    """At no turn, too, and at half a turn, where upright people stand."""
    draw = torch.Generator().manual_seed(0)
    noise = 0.3 * torch.randn(6, 3, dtype=torch.float64, generator=draw)
    for middle in (torch.zeros(3), torch.tensor([np.pi - 0.5, 0, 0])):
        vectors = (middle + noise).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda turns: axis_angles(matrices_from_axis_angles(turns)), vectors)
    still = torch.zeros(2, 3, requires_grad=True)
    axis_angles(matrices_from_axis_angles(still)).sum().backward()
    torch.testing.assert_close(still.grad, torch.ones(2, 3))
