# SPDX-License-Identifier: Apache-2.0
"""Joints of whole bodies in torch against the package smplx and the body's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from whole_people import fabricated_body, whole_body_arrays  # noqa: E402

from hmr_ros.body.whole_body import load_whole_body, WholeBodyModel  # noqa: E402
from hmr_ros.training.bidrn.smplx_layer import WholeBodyJoints  # noqa: E402

pytestmark = pytest.mark.torch
Person = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def people(count: int, spread: float) -> Person:
    draw = torch.Generator().manual_seed(3)
    return tuple(scale * torch.randn(count, *shape, generator=draw) for scale, shape in (
        (spread, (53, 3)), (1.0, (10,)), (1.0, (10,))))


@pytest.mark.parametrize('spread', [0.0, 0.3, 1.0])
def test_joints_are_those_of_smplx(spread: float, tmp_path: Path) -> None:
    smplx = pytest.importorskip('smplx', reason='the package smplx is not installed')
    body, arrays = fabricated_body(tmp_path), whole_body_arrays()
    theirs = smplx.SMPLX(
        str(tmp_path / 'SMPLX_NEUTRAL.npz'), use_pca=False, flat_hand_mean=False,
        use_face_contour=True)
    theirs.vertex_joint_selector.extra_joints_idxs = torch.from_numpy(arrays['named_vertices'])
    pose, betas, expression = people(6, spread)
    parts = {'global_orient': pose[:, :1], 'body_pose': pose[:, 1:22],
             'left_hand_pose': pose[:, 22:37], 'right_hand_pose': pose[:, 37:52],
             'jaw_pose': pose[:, 52:]}
    expected = theirs(
        betas=betas, expression=expression, leye_pose=torch.zeros(6, 3),
        reye_pose=torch.zeros(6, 3), **{name: part.flatten(1) for name, part in parts.items()})
    found = WholeBodyJoints(body).all_joints(pose, betas, expression)
    torch.testing.assert_close(found, expected.joints.detach(), rtol=0, atol=2e-5)


@pytest.fixture(params=['fabricated', 'without_bends', 'open'])
def body(request: pytest.FixtureRequest, tmp_path: Path) -> WholeBodyModel:
    if request.param == 'open':
        return load_whole_body()
    if request.param == 'fabricated':
        return fabricated_body(tmp_path)
    arrays = {name: array for name, array in whole_body_arrays().items() if name != 'posedirs'}
    np.savez(tmp_path / 'plain.npz', **arrays)
    return load_whole_body(tmp_path / 'plain.npz')


def test_joints_are_those_of_the_body(body: WholeBodyModel) -> None:
    layer, (pose, betas, expression) = WholeBodyJoints(body), people(4, 0.6)
    _, expected = body.posed(
        *(value.numpy() for value in (pose, betas, expression)), np.zeros((4, 3), np.float32))
    found = layer.all_joints(pose, betas, expression).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_parameters_learn_from_joints(tmp_path: Path) -> None:
    layer = WholeBodyJoints(fabricated_body(tmp_path)).double()
    values = [value.double().requires_grad_() for value in people(1, 0.4)]
    assert torch.autograd.gradcheck(
        lambda *person: layer(*person)[:, ::9], values, fast_mode=True)
