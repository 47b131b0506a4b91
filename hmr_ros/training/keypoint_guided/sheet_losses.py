# SPDX-License-Identifier: Apache-2.0
"""The authors' training objective (sheet 3.1 and 3.2): RLE, pose, shape, twist and camera."""

from __future__ import annotations

import torch
from torch import nn

from hmr_ros.body.model import BodyModel
from hmr_ros.networks.keypoint_guided.prediction import Prediction
from hmr_ros.perception.keypoint_guided import DEPTH_SCALE_M, JOINTS
from hmr_ros.training.keypoint_guided.flows import Flows, mean_of_negative
from hmr_ros.training.keypoint_guided.kinematics import naive_rotations
from hmr_ros.training.keypoint_guided.losses import known_mean
from hmr_ros.training.kinematics import quaternions, RestSkeleton

#: of the released code; the paper has 0.1 for the shape and no camera term.
SHEET_WEIGHTS = {'keypoints': 1.0, 'pose': 0.01, 'shape': 1.0, 'twist': 0.01, 'camera': 1.0}


class SheetLosses(nn.Module):
    """
    The terms of the released code, by name and weighted.

    `body` gives the rest joints, which are affine in betas. Labels, float32, N samples: `uvd` and
    `uvd_weight` (N, 96, 3), `phi` (N, 23, 2), `betas` (N, 10), `camera_scale` (N,), `rotmats`
    (N, 24, 3, 3), `camera` (N, 3) f, cx, cy, `crop_centre` (N, 2) and `crop_side` (N,) in pixels,
    `pose_known` and `camera_known` (N,) 0 or 1.
    """

    def __init__(self, body: BodyModel, weights: dict[str, float] = SHEET_WEIGHTS) -> None:
        super().__init__()
        self.flows = Flows()
        self.weights = dict(weights)
        self.rest = RestSkeleton(body)

    def forward(
            self, prediction: Prediction, batch: dict[str, torch.Tensor],
            settled: bool) -> dict[str, torch.Tensor]:
        """Weighted terms; once `settled`, samples with a positive RLE do not count in it."""
        tokens = prediction.uvd.shape[1]
        likelihood = self.flows.residual_log_likelihood(
            prediction.uvd, prediction.sigma, batch['uvd'][:, :tokens],
            batch['uvd_weight'][:, :tokens])
        terms = {
            'keypoints': mean_of_negative(likelihood) if settled else likelihood.mean(),
            'pose': self.pose_error(prediction, batch),
            'shape': known_mean((prediction.betas - batch['betas']) ** 2, batch['pose_known']),
            'twist': known_mean((prediction.phi - batch['phi']) ** 2, batch['pose_known']),
            'camera': known_mean(
                (prediction.cam[:, 0] - batch['camera_scale']) ** 2, batch['camera_known'])}
        return {name: self.weights[name] * value for name, value in terms.items()}

    def pose_error(
            self, prediction: Prediction, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean squared error of the quaternions that inverse kinematics makes, sign aside."""
        points = skeleton(prediction.uvd[:, :JOINTS], prediction.cam[:, 0], batch).detach()
        found = quaternions(
            naive_rotations(points, self.rest(prediction.betas), prediction.phi))
        true = quaternions(batch['rotmats'])
        true = true * torch.sign((found.detach() * true).sum(-1, keepdim=True) + 1e-12)
        return known_mean((found - true) ** 2, batch['pose_known'])


def skeleton(
        uvd: torch.Tensor, scale: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Joints `(N, K, 3)` relative to joint 0 in metres, seen by the real camera (sheet 1.3)."""
    focal, principal = batch['camera'][:, :1], batch['camera'][:, None, 1:]
    side = batch['crop_side'][:, None]
    root = focal / (scale[:, None].clamp(min=0.05) * side)
    depth = (root + DEPTH_SCALE_M * (uvd[..., 2] - uvd[:, :1, 2])).clamp(min=0.05)
    pixels = batch['crop_centre'][:, None] + uvd[..., :2] * side[..., None]
    lateral = (pixels - principal) / focal[..., None] * depth[..., None]
    points = torch.cat([lateral, depth[..., None]], -1)
    return points - points[:, :1]
