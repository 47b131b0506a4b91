# SPDX-License-Identifier: Apache-2.0
"""Losses of the whole-body network: masked L1, each averaged over everything (sheet, section 3)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from hmr_ros.networks.bidrn.layout import BOXES, FOCAL, Plan, VIRTUAL
from hmr_ros.networks.bidrn.network import WholePerson
from hmr_ros.training.bidrn.joints import FACE, LEFT_HAND, MAPPED, relative, RIGHT_HAND
from hmr_ros.training.bidrn.smplx_layer import WholeBodyJoints
from hmr_ros.training.bidrn.targets import depth_cells, HandWindows, Targets
from hmr_ros.training.kinematics import axis_angles, matrices_from_6d

#: keeps what is projected finite, metres.
_NEAREST = 1e-4
#: shorter turns have no axis, radians.
_NO_TURN = 1e-6
HANDS = slice(LEFT_HAND.start, RIGHT_HAND.stop)


class Decoded(NamedTuple):
    """
    What the network says of N people, as losses read it.

    pose    (N, 53, 3)   axis-angle: 22 of the body, 15 of each hand, jaw
    joints  (N, 137, 3)  metres, the root at rest
    places  (N, 137, 2)  where the camera sees them, 0 to 1 across the crop
    """

    pose: torch.Tensor
    joints: torch.Tensor
    places: torch.Tensor


def decode(found: WholePerson, layer: WholeBodyJoints) -> Decoded:
    """Turn what the network says into joints."""
    pose = axis_angles(matrices_from_6d(torch.cat([
        found.root, found.body_pose, found.left_hand, found.right_hand, found.jaw], 1)))
    joints = layer(pose, found.shape, found.expression)
    return Decoded(pose, joints, project(joints + found.transl[:, None]))


def project(points: torch.Tensor) -> torch.Tensor:
    """Map `(..., 3)` in metres before the network's camera to `(..., 2)`, 0 to 1 in the crop."""
    focal = points.new_tensor([FOCAL / VIRTUAL[1], FOCAL / VIRTUAL[0]])
    return focal * points[..., :2] / (points[..., 2:] + _NEAREST) + 0.5


def masked_l1(
        found: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean over all elements, those of which nothing is known included as 0."""
    return ((found - target).abs() * known).mean()


def nearer_turn(vectors: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """
    Of both axis-angles of a rotation `(..., 3)`, about its axis and against it, the one nearer.

    People who stand upright before a camera are half a turn from the model's rest, where one form
    ends and the other begins; the farther one would teach them the long way round.
    """
    angle = vectors.norm(dim=-1, keepdim=True)
    other = vectors * (1 - 2 * math.pi / angle.clamp(min=_NO_TURN))
    nearer = (other - found).abs().sum(-1) < (vectors - found).abs().sum(-1)
    return torch.where((nearer & (angle[..., 0] > _NO_TURN))[..., None], other, vectors)


def whole_body_losses(
        found: WholePerson, targets: Targets, layer: WholeBodyJoints,
        plan: Plan) -> dict[str, torch.Tensor]:
    """All terms by the sheet's names; they count alike."""
    said, windows = decode(found, layer), HandWindows(found.boxes, plan)
    inside, fitted_inside = (
        _within(cells, known, windows) for cells, known in (
            (targets.cells, targets.inside), (targets.fitted_cells, targets.fitted_inside)))
    return {
        **_parameter_losses(found, said.pose, targets),
        **_joint_losses(relative(said.joints), targets), **_box_losses(found, targets),
        'joint_proj': _projection_loss(said.places, targets.cells, inside, windows, plan),
        'joint_img': _map_loss(found, targets.cells, targets.joints, inside, targets.is_3d,
                               windows, plan),
        'smplx_joint_img': _map_loss(found, targets.fitted_cells, targets.fitted_joints,
                                     fitted_inside, targets.is_3d, windows, plan)}


def _parameter_losses(
        found: WholePerson, pose: torch.Tensor, targets: Targets) -> dict[str, torch.Tensor]:
    target = nearer_turn(targets.pose, pose.detach())
    return {
        'smplx_pose': masked_l1(pose, target, targets.pose_known[..., None]),
        'smplx_shape': masked_l1(found.shape, targets.betas, targets.betas_known),
        'smplx_expr': masked_l1(found.expression, targets.expression, targets.expression_known)}


def _joint_losses(joints: torch.Tensor, targets: Targets) -> dict[str, torch.Tensor]:
    known = (targets.joints_known * targets.is_3d)[..., None]
    return {'joint_cam': masked_l1(joints, targets.joints, known),
            'smplx_joint_cam': masked_l1(joints, targets.fitted_joints, known)}


def _box_losses(found: WholePerson, targets: Targets) -> dict[str, torch.Tensor]:
    losses = {}
    for row, part in enumerate(BOXES):
        known = targets.box_known[:, row, None]
        losses[f'{part}_bbox'] = sum((
            masked_l1(ours[:, row], theirs[:, row], known)
            for ours, theirs in zip((found.centres, found.sizes), targets.boxes)),
            known.new_zeros(()))
    return losses


def _within(
        cells: torch.Tensor, known: torch.Tensor, windows: HandWindows) -> torch.Tensor:
    """Of joints inside the crop, `known` `(N, 137)`, those of hands count inside their boxes."""
    hands = known[:, HANDS] * windows.contain(windows(cells[:, HANDS]))
    return torch.cat([known[:, :HANDS.start], hands, known[:, HANDS.stop:]], 1)


def _projection_loss(
        places: torch.Tensor, cells: torch.Tensor, inside: torch.Tensor, windows: HandWindows,
        plan: Plan) -> torch.Tensor:
    """Compare hands and faces by their form alone: where they are, the body says."""
    ours = places * places.new_tensor([plan.body_cells[2], plan.body_cells[1]])
    ours, cells = (_zoomed(points, windows) for points in (ours, cells))
    shifted = list(ours.split([HANDS.start, 20, 20, FACE.stop - FACE.start], 1))
    for number, part in enumerate((LEFT_HAND, RIGHT_HAND, FACE), start=1):
        known = inside[:, part, None]
        away = ((cells[:, part] - shifted[number]) * known).sum(1, keepdim=True)
        shifted[number] = shifted[number] + away / known.sum(1, keepdim=True).clamp(min=1)
    return masked_l1(torch.cat(shifted, 1), cells, inside[..., None])


def _zoomed(cells: torch.Tensor, windows: HandWindows) -> torch.Tensor:
    """Put joints of hands among `(N, 65 or 137, 2)` into cells of their own maps."""
    return torch.cat([
        cells[:, :HANDS.start], windows(cells[:, HANDS]), cells[:, HANDS.stop:]], 1)


def _map_loss(
        found: WholePerson, cells: torch.Tensor, joints: torch.Tensor, inside: torch.Tensor,
        is_3d: torch.Tensor, windows: HandWindows, plan: Plan) -> torch.Tensor:
    """Places in the heat-maps of body and hands."""
    ours = torch.cat([found.body_joints, found.hand_joints.flatten(1, 2)], 1)
    depth = depth_cells(joints, plan.body_cells[0])
    # Beyond the maps' ends nothing can be shown.
    covered = (depth >= 0) & (depth < plan.body_cells[0])
    shown = inside[:, MAPPED] * torch.where(is_3d > 0, covered.float(), 1.0)
    target = torch.cat([_zoomed(cells[:, MAPPED], windows), depth[..., None]], -1)
    known = torch.stack([shown, shown, shown * is_3d], -1)
    return masked_l1(ours, target, known)
