# SPDX-License-Identifier: Apache-2.0
"""Basic and directional self-supervision losses of the image network (sheet 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch

from hmr_ros.networks.rsc_net.prediction import Body
from hmr_ros.training.kinematics import matrices_from_6d, pose_joints, RestSkeleton

#: everything is multiplied by it.
SCALE = 60.0
BASIC = {'joints2d': 5.0, 'joints3d': 5.0, 'pose': 1.0, 'betas': 1e-3, 'camera': 1e-4,
         'positive': 1.0}
SELF = {'pose': 1.0, 'betas': 1e-3, 'camera': 1e-4}
SELF_WEIGHT, CONTRAST_WEIGHT = 0.25, 0.1
#: of the camera that predictions are meant for: focal length over the half side (sheet 1.4).
#: smaller scales count as this one: the sheet's 1e-9 lets a fresh network leap to infinity.
_FOCAL, _SMALLEST = 5000.0 / 112.0, 0.02
#: the sheet's mean runs over 49 joints, of which 24 carry weight; ours are the body's 24.
_WEIGHTED = 24 / 49
_HIPS = [1, 2]


class Decoded(NamedTuple):
    """rotmats (N, 24, 3, 3), betas (N, 10), transl (N, 3) before the crop camera, cam (N, 3)."""

    rotmats: torch.Tensor
    betas: torch.Tensor
    transl: torch.Tensor
    cam: torch.Tensor


def decode(body: Body) -> Decoded:
    """Read a prediction: rotations and the place before a camera of 5000 px focal length."""
    scale, lateral = body.cam[:, :1], body.cam[:, 1:]
    transl = torch.cat([lateral, _FOCAL / scale.clamp(min=_SMALLEST)], -1)
    return Decoded(matrices_from_6d(body.pose6d), body.betas, transl, body.cam)


def pair_weight(high: int, low: int, rows: int) -> float:
    """Weight of the pair of rows, 0 unless `low` is of lower resolution than `high`."""
    return max(0, low - high) / rows


def basic_terms(
        found: Decoded, rest: RestSkeleton,
        batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Weighted terms of one resolution, before SCALE and the weight of its row.

    Labels: rotmats (N, 24, 3, 3), betas (N, 10), joints2d (N, 24, 2) in -1 to 1 and their
    confidence (N, 24), joints3d (N, 24, 3) in metres, transl (N, 3) before the crop camera.
    """
    at_rest = rest(found.betas)
    joints = pose_joints(found.rotmats, at_rest) + at_rest[:, :1]
    seen = joints + found.transl[:, None]
    pixels = _FOCAL * seen[..., :2] / seen[..., 2:].clamp(min=0.1)
    off = batch['confidence'][..., None] * (pixels - batch['joints2d']).square()
    terms = {
        'joints2d': _WEIGHTED * off.mean(),
        'joints3d': (_centred(joints) - _centred(batch['joints3d'])).square().mean(),
        **_parameter_terms(found, batch['rotmats'], batch['betas'], batch['transl']),
        # Keeps a network that starts from nothing from turning its camera round.
        'positive': torch.exp(-10 * found.cam[:, 0]).square().mean()}
    return {name: BASIC[name] * value for name, value in terms.items()}


def self_supervision(high: Decoded, low: Decoded) -> torch.Tensor:
    """Pull a prediction towards that of a higher resolution, which gets no gradient."""
    terms = _parameter_terms(
        low, high.rotmats.detach(), high.betas.detach(), high.transl.detach())
    return torch.stack([SELF[name] * value for name, value in terms.items()]).sum()


def _parameter_terms(
        found: Decoded, rotmats: torch.Tensor, betas: torch.Tensor,
        transl: torch.Tensor) -> dict[str, torch.Tensor]:
    return {'pose': (found.rotmats - rotmats).square().mean(),
            'betas': (found.betas - betas).square().mean(),
            'camera': (found.transl - transl).square().mean()}


def _centred(joints: torch.Tensor) -> torch.Tensor:
    return joints - joints[:, _HIPS].mean(1, keepdim=True)
