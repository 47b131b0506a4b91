# SPDX-License-Identifier: Apache-2.0
"""Losses of the whole body: what they are of people found exactly, and what they leave out."""

from __future__ import annotations

from dataclasses import replace
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip('torch', reason='training needs torch')
from whole_people import fabricated_batch, fabricated_body  # noqa: E402

from hmr_ros.networks.bidrn import compact  # noqa: E402
from hmr_ros.networks.bidrn.crops import decode_boxes  # noqa: E402
from hmr_ros.networks.bidrn.network import WholePerson  # noqa: E402
from hmr_ros.training.bidrn.losses import (  # noqa: E402
    nearer_turn, project, whole_body_losses)
from hmr_ros.training.bidrn.smplx_layer import WholeBodyJoints  # noqa: E402
from hmr_ros.training.bidrn.targets import depth_cells, HandWindows, Targets  # noqa: E402
from hmr_ros.training.kinematics import matrices_from_axis_angles  # noqa: E402

pytestmark = pytest.mark.torch
PLAN = compact('bidrn').sizes


@pytest.fixture
def layer(tmp_path: Path) -> WholeBodyJoints:
    return WholeBodyJoints(fabricated_body(tmp_path))


@pytest.fixture
def batch(tmp_path: Path) -> dict[str, torch.Tensor]:
    return fabricated_batch(fabricated_body(tmp_path), PLAN, 3)


def six(pose: torch.Tensor) -> torch.Tensor:
    """Six numbers of rotations: two columns, row by row."""
    return matrices_from_axis_angles(pose)[..., :2].flatten(1)


def exact(batch: dict[str, torch.Tensor]) -> WholePerson:
    """Say what the batch says."""
    targets, pose = Targets.of(batch, PLAN), batch['pose']
    boxes = decode_boxes(targets.boxes, PLAN)
    depth = depth_cells(targets.joints, PLAN.body_cells[0])[..., None]
    hands = HandWindows(boxes, PLAN)(targets.cells[:, 25:65])
    return WholePerson(
        six(pose[:, :1]), six(pose[:, 1:22]), six(pose[:, 22:37]), six(pose[:, 37:52]),
        six(pose[:, 52:]), targets.betas, batch['expression'], batch['transl'],
        torch.cat([targets.cells[:, :25], depth[:, :25]], 2),
        torch.cat([hands, depth[:, 25:]], 2).unflatten(1, (2, 20)), *targets.boxes, boxes)


def test_people_found_exactly_cost_nothing(
        layer: WholeBodyJoints, tmp_path: Path) -> None:
    batch = fabricated_batch(fabricated_body(tmp_path), PLAN, 3, betas_spread=0.5)
    losses = whole_body_losses(exact(batch), Targets.of(batch, PLAN), layer, PLAN)
    assert set(losses) == {
        'smplx_pose', 'smplx_shape', 'smplx_expr', 'joint_cam', 'smplx_joint_cam', 'lhand_bbox',
        'rhand_bbox', 'face_bbox', 'joint_proj', 'joint_img', 'smplx_joint_img'}
    for name, value in losses.items():
        assert float(value) == pytest.approx(0, abs=2e-4), name


#: what of a person is moved, and which losses notice.
MOVED = {
    'root': {'smplx_pose', 'joint_cam', 'smplx_joint_cam', 'joint_proj'},
    'shape': {'smplx_shape', 'joint_cam', 'smplx_joint_cam', 'joint_proj'},
    'expression': {'smplx_expr', 'joint_cam', 'smplx_joint_cam', 'joint_proj'},
    'transl': {'joint_proj'}, 'body_joints': {'joint_img', 'smplx_joint_img'},
    'hand_joints': {'joint_img', 'smplx_joint_img'},
    'centres': {'lhand_bbox', 'rhand_bbox', 'face_bbox'},
    'sizes': {'lhand_bbox', 'rhand_bbox', 'face_bbox'}}


@pytest.mark.parametrize('part', list(MOVED))
def test_each_loss_notices_its_own(part: str, layer: WholeBodyJoints, tmp_path: Path) -> None:
    batch = fabricated_batch(fabricated_body(tmp_path), PLAN, 3, betas_spread=0.5)
    said, targets = exact(batch), Targets.of(batch, PLAN)
    moved = said._replace(**{part: getattr(said, part) + 0.5 * torch.rand_like(
        getattr(said, part))})
    losses = whole_body_losses(moved, targets, layer, PLAN)
    assert {name for name, value in losses.items() if float(value) > 1e-3} == MOVED[part]


def test_hands_and_faces_are_projected_by_form_alone(
        layer: WholeBodyJoints, tmp_path: Path) -> None:
    """A camera that moves aside moves body joints; hands and face are shifted back."""
    batch = fabricated_batch(fabricated_body(tmp_path), PLAN, 1, betas_spread=0.5)
    said = exact(batch)
    aside = said._replace(transl=said.transl + torch.tensor([0.05, 0.0, 0.0]))
    targets = Targets.of(batch, PLAN)
    hands = replace(targets, inside=torch.cat(
        [torch.zeros_like(targets.inside[:, :25]), targets.inside[:, 25:]], 1))
    loss = [float(whole_body_losses(aside, some, layer, PLAN)['joint_proj'])
            for some in (targets, hands)]
    assert loss[1] < 0.02 * loss[0]


@pytest.mark.parametrize(('mask', 'silenced'), [
    ('pose_known', {'smplx_pose'}), ('betas_known', {'smplx_shape'}),
    ('expression_known', {'smplx_expr'}), ('joints_known', {'joint_cam', 'smplx_joint_cam'}),
    ('is_3d', {'joint_cam', 'smplx_joint_cam'}),
    ('box_known', {'lhand_bbox', 'rhand_bbox', 'face_bbox'}),
    ('inside', {'joint_proj', 'joint_img', 'smplx_joint_img'})])
def test_what_is_not_known_counts_as_nothing(
        mask: str, silenced: set[str], layer: WholeBodyJoints,
        batch: dict[str, torch.Tensor]) -> None:
    said = exact(batch)
    wrong = WholePerson(*(value + 0.3 for value in said))._replace(boxes=said.boxes)
    known = batch[mask] if mask in batch else getattr(Targets.of(batch, PLAN), mask)
    losses = whole_body_losses(
        wrong, Targets.of({**batch, mask: torch.zeros_like(known)}, PLAN), layer, PLAN)
    assert {name for name, value in losses.items() if float(value) == 0} == silenced


def test_masked_elements_are_averaged_in(
        layer: WholeBodyJoints, batch: dict[str, torch.Tensor]) -> None:
    said = exact(batch)
    wrong = said._replace(expression=said.expression + 1)
    half = {**batch, 'expression_known': torch.tensor([[1.0], [0.0], [0.0]])}
    loss = whole_body_losses(wrong, Targets.of(half, PLAN), layer, PLAN)['smplx_expr']
    assert float(loss) == pytest.approx(1 / 3, abs=1e-6)


def test_depth_counts_only_in_three_dimensions(
        layer: WholeBodyJoints, batch: dict[str, torch.Tensor]) -> None:
    said = exact(batch)
    deeper = said._replace(body_joints=said.body_joints + torch.tensor([0.0, 0.0, 1.0]))
    losses = [float(whole_body_losses(deeper, Targets.of({**batch, 'is_3d': flag}, PLAN), layer,
                                      PLAN)['joint_img'])
              for flag in (torch.ones(3, 1), torch.zeros(3, 1))]
    assert losses[0] > 0.01 and losses[1] < 2e-4


def test_shapes_out_of_bounds_are_mistakes(batch: dict[str, torch.Tensor]) -> None:
    betas = batch['betas'].clamp(-2, 2)
    betas[1, 4] = 3.5
    found = Targets.of({**batch, 'betas': betas}, PLAN).betas
    assert not found[1].any()
    torch.testing.assert_close(found[[0, 2]], betas[[0, 2]])


def test_the_nearer_axis_angle_is_the_same_rotation() -> None:
    rng = np.random.default_rng(0)
    vectors, found = (torch.from_numpy(
        Rotation.random(200, rng).as_rotvec().astype(np.float32)) for _ in range(2))
    nearer = nearer_turn(vectors, found)
    turn = Rotation.from_rotvec(nearer.numpy()).inv() * Rotation.from_rotvec(vectors.numpy())
    assert turn.magnitude().max() < 1e-5
    assert bool(((nearer - found).abs().sum(1) <= (vectors - found).abs().sum(1) + 1e-6).all())
    assert not torch.equal(nearer, vectors)


def test_upright_people_are_a_short_way_from_one_another() -> None:
    leaning = torch.tensor([[math.pi - 0.1, 0.0, 0.0]])
    torch.testing.assert_close(
        nearer_turn(-leaning, leaning), torch.tensor([[math.pi + 0.1, 0.0, 0.0]]))


def test_projection_of_the_sheet() -> None:
    points = torch.tensor([[0.3, -0.2, 40.0]])
    u, v = (project(points) * torch.tensor([192.0, 256.0]))[0].tolist()
    assert u == pytest.approx(5000 * 0.3 / 40.0001 + 96, abs=1e-3)
    assert v == pytest.approx(5000 * -0.2 / 40.0001 + 128, abs=1e-3)
