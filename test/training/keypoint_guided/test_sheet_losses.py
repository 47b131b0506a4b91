# SPDX-License-Identifier: Apache-2.0
"""The authors' objective: flows, inverse kinematics with gradients, terms (sheet, checks 9, 7)."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.networks.keypoint_guided.network import Prediction  # noqa: E402
from hmr_ros.perception.inverse_kinematics import (  # noqa: E402
    forward_kinematics, solve_rotations, svd_root, twist_angles)
from hmr_ros.perception.rotations import axis_angle_to_matrix, matrix_to_quaternion  # noqa: E402
from hmr_ros.training.keypoint_guided.flows import (  # noqa: E402
    Flows, mean_of_negative, RealNVP)
from hmr_ros.training.keypoint_guided.kinematics import naive_rotations  # noqa: E402
from hmr_ros.training.keypoint_guided.sheet_losses import SheetLosses, skeleton  # noqa: E402
from hmr_ros.training.kinematics import quaternions  # noqa: E402

pytestmark = pytest.mark.torch
PEOPLE = 5


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_flows_have_the_size_of_the_sheet() -> None:
    flows = Flows()
    assert (parameters(flows.flow2d), parameters(flows.flow3d)) == (53_784, 55_332)


@pytest.mark.parametrize('dimensions', [2, 3])
def test_flow_is_invertible_and_its_density_integrates_to_one(dimensions: int) -> None:
    torch.manual_seed(dimensions)
    flow = RealNVP(dimensions)
    z = torch.randn(200, dimensions)
    with torch.no_grad():
        back, log_determinant = flow.inverse(flow(z))
    torch.testing.assert_close(back, z, atol=1e-5, rtol=0)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: flow.inverse(x)[0]))(flow(z).detach())
    torch.testing.assert_close(
        torch.linalg.slogdet(jacobian)[1], log_determinant, atol=1e-4, rtol=1e-4)


def zero_flows() -> Flows:
    flows = Flows()
    for parameter in flows.parameters():
        parameter.data.zero_()
    return flows


def test_values_of_the_sheet() -> None:
    """Check 9."""
    flows = zero_flows()
    with torch.no_grad():
        assert flows.flow2d.log_density(torch.zeros(2)) == pytest.approx(-1.83788, abs=1e-5)
        assert flows.flow3d.log_density(torch.zeros(3)) == pytest.approx(-2.75682, abs=1e-5)
        nothing, one = torch.zeros(1, 1, 3), torch.ones(1, 1, 3)
        loss = flows.residual_log_likelihood(nothing + 0.05, 0.1 * one, nothing, one) / 3
    assert loss.item() == pytest.approx(-0.20086, abs=1e-4)


def test_keypoints_without_depth_use_the_flat_flow() -> None:
    flows = zero_flows()
    flat = torch.tensor([[[1.0, 1.0, 0.0]]])
    nothing = torch.zeros(1, 1, 3)
    with torch.no_grad():
        loss = flows.residual_log_likelihood(nothing, nothing + 0.1, nothing + 0.05, flat)
    per_coordinate = (math.log(0.1) + 0.25 + math.log(2 * math.pi)
                      + math.log(0.1 * math.sqrt(2 * math.pi)) + 0.05 / (math.sqrt(2) * 0.1))
    assert loss.item() == pytest.approx(2 * per_coordinate, abs=1e-5)


def test_samples_with_a_positive_loss_are_left_out() -> None:
    assert mean_of_negative(torch.tensor([-1.0, -3.0, 5.0])) == -2
    assert mean_of_negative(torch.tensor([2.0, 5.0])) == 0


def bodies() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rest skeletons, rotations and twists of random people."""
    rng = np.random.default_rng(0)
    body = load_body()
    betas = rng.normal(size=(PEOPLE, 10)).astype(np.float32)
    rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], axis=1)
    rotmats = axis_angle_to_matrix(rng.normal(scale=0.6, size=(PEOPLE, 24, 3)))
    angles = twist_angles(rotmats, rest)
    return rest, rotmats, np.stack([np.cos(angles), np.sin(angles)], -1)


def test_rotations_equal_those_of_the_live_path() -> None:
    """Without noise all three roots and both ways to follow bones agree."""
    rest, rotmats, phi = bodies()
    joints, _ = forward_kinematics(rotmats, rest.astype(np.float64))
    points = joints - joints[:, :1]
    found = naive_rotations(*(torch.from_numpy(np.asarray(a, np.float64))
                              for a in (points, rest, 3 * phi))).numpy()
    np.testing.assert_allclose(found, rotmats, atol=1e-4)
    np.testing.assert_allclose(
        found, solve_rotations(points, rest, phi, 'naive', svd_root), atol=1e-4)


def test_gradient_reaches_twist_and_shape_and_is_finite_on_straight_bones() -> None:
    rest, _, phi = bodies()
    rest, phi = (torch.from_numpy(np.asarray(a, np.float64)).requires_grad_() for a in (rest, phi))
    straight = (rest - rest[:, :1]).detach()
    naive_rotations(straight, rest, phi).square().mul(torch.rand(24, 3, 3)).sum().backward()
    for value in (rest, phi):
        assert torch.isfinite(value.grad).all() and value.grad.abs().sum() > 0


def test_quaternions_equal_those_of_perception() -> None:
    rng = np.random.default_rng(1)
    rotmats = axis_angle_to_matrix(rng.normal(scale=2, size=(200, 3)))
    found, expected = quaternions(torch.from_numpy(rotmats)).numpy(), matrix_to_quaternion(rotmats)
    np.testing.assert_allclose(np.abs(np.sum(found * expected, -1)), 1, atol=1e-5)


@pytest.fixture(scope='module')
def labels() -> dict[str, torch.Tensor]:
    from hmr_ros.training.synthetic import CLEAN, render_cutouts, SyntheticPeople
    store = render_cutouts(load_body(), PEOPLE, seed=4, size=96)
    people = SyntheticPeople(store, 64, 1, CLEAN)
    batch = people.batch(people.rng(0), PEOPLE)
    known = {name: torch.ones(PEOPLE) for name in ('pose_known', 'camera_known')}
    return {**known, **{name: torch.from_numpy(value) for name, value in batch.items()}}


def perfect(labels: dict[str, torch.Tensor]) -> Prediction:
    cam = torch.zeros(PEOPLE, 3)
    cam[:, 0] = labels['camera_scale']
    sigma = torch.full((PEOPLE, 96, 3), 0.05)
    return Prediction(
        labels['uvd'], sigma, labels['phi'], labels['betas'], cam, torch.zeros(PEOPLE, 1216))


def test_perfect_prediction_has_no_error(labels: dict[str, torch.Tensor]) -> None:
    terms = SheetLosses(load_body())(perfect(labels), labels, True)
    for name in ('pose', 'shape', 'twist', 'camera'):
        assert terms[name].item() == pytest.approx(0, abs=1e-8), name
    expected = labels['joints3d'] - labels['joints3d'][:, :1]
    found = skeleton(labels['uvd'][:, :29], labels['camera_scale'], labels)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_pose_error_moves_twist_and_shape_but_not_the_keypoints(
        labels: dict[str, torch.Tensor]) -> None:
    guess = perfect(labels)
    moved = [value.clone().add(0.1).requires_grad_() for value in
             (guess.uvd, guess.phi, guess.betas)]
    guess = guess._replace(uvd=moved[0], phi=moved[1], betas=moved[2])
    terms = SheetLosses(load_body())(guess, labels, False)
    terms['pose'].backward()
    assert terms['pose'] > 0 and moved[0].grad is None
    assert moved[1].grad.abs().sum() > 0 and moved[2].grad.abs().sum() > 0
