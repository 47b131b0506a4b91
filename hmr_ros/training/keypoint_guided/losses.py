# SPDX-License-Identifier: Apache-2.0
"""Losses of the first model: Laplace likelihood of keypoints, twist, shape, camera, heat-maps."""

from __future__ import annotations

import torch
from torch.nn import functional

from hmr_ros.networks.keypoint_guided.network import Prediction

HEATMAP_SIZE = 32
#: brings the mean squared error of heat-maps to the size of the other terms.
HEATMAP_SCALE = 300.0
#: keeps one sure but wrong keypoint from outweighing a whole batch; 2.6 pixels of 256.
SMALLEST_SIGMA = 0.01
WEIGHTS = {'keypoints': 1.0, 'twist': 0.3, 'shape': 0.02, 'camera': 1.0}


def keypoint_likelihood(
        uvd: torch.Tensor, sigma: torch.Tensor, target: torch.Tensor,
        weight: torch.Tensor) -> torch.Tensor:
    """
    Mean negative log likelihood of a Laplace distribution per coordinate.

    All arguments (N, 96, 3). The residual part of RLE (sheet 3.1) without its flow.
    """
    sigma = sigma.clamp(min=SMALLEST_SIGMA)
    loss = torch.log(2 * sigma) + (uvd - target).abs() / sigma
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


def heatmap_targets(uvd: torch.Tensor, size: int) -> torch.Tensor:
    """Gaussians `(N, K, size, size)` of 1.5 pixels around the keypoints' u and v."""
    grid = torch.arange(size, device=uvd.device, dtype=torch.float32)
    centre = (uvd[..., :2] + 0.5) * size - 0.5
    x, y = (torch.exp(-((grid - centre[..., i, None]) / 1.5) ** 2 / 2) for i in (0, 1))
    return y[..., :, None] * x[..., None, :]


def loss_terms(
        prediction: Prediction, heatmaps: torch.Tensor | None,
        batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Return every weighted term by name; `heatmaps` (N, 29, H, H) or None.

    Heat-maps of joints that nothing shows count a third: where they are is a guess.
    """
    terms = {
        'keypoints': keypoint_likelihood(
            prediction.uvd, prediction.sigma, batch['uvd'], batch['uvd_weight']),
        'twist': functional.mse_loss(prediction.phi, batch['phi']),
        'shape': functional.mse_loss(prediction.betas, batch['betas']),
        'camera': (prediction.cam[:, 0] / batch['camera_scale'] - 1).abs().mean()}
    terms = {name: WEIGHTS[name] * value for name, value in terms.items()}
    if heatmaps is not None:
        joints = heatmaps.shape[1]
        error = (heatmaps - heatmap_targets(batch['uvd'][:, :joints], heatmaps.shape[-1])) ** 2
        trust = (1 + 2 * batch['visible'][:, :joints]) / 3
        terms['heatmaps'] = HEATMAP_SCALE * (error.mean((2, 3)) * trust).mean()
    return terms
