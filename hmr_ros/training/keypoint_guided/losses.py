# SPDX-License-Identifier: Apache-2.0
"""Losses of the first model: Laplace likelihood of keypoints, twist, shape, camera, maps."""

from __future__ import annotations

import torch

from hmr_ros.networks.keypoint_guided.prediction import Prediction

#: sides of the decoder's heat-maps and spreads of the Gaussians, in cells.
HEATMAP_SIZE, HEATMAP_SIGMA, TOKEN_SIGMA = 32, 1.5, 1.2
#: how far one unit of d raises a keypoint map; small, so that it hardly changes the map's norm.
DEPTH_OFFSET = 0.15
#: bring the mean squared errors of heat-maps and token maps to the size of the other terms.
HEATMAP_SCALE, TOKEN_SCALE = 300.0, 20.0
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


def heatmap_targets(uvd: torch.Tensor, size: int, sigma: float) -> torch.Tensor:
    """Gaussians `(N, K, size, size)` of `sigma` cells around the keypoints' u and v."""
    grid = torch.arange(size, device=uvd.device, dtype=torch.float32)
    centre = (uvd[..., :2] + 0.5) * size - 0.5
    x, y = (torch.exp(-((grid - centre[..., i, None]) / sigma) ** 2 / 2) for i in (0, 1))
    return y[..., :, None] * x[..., None, :]


def token_map_targets(uvd: torch.Tensor, size: int) -> torch.Tensor:
    """
    What keypoint maps `(N, K, size, size)` should look like before ScaleNorm.

    A Gaussian without its mean, whose centroid is (u, v), raised by DEPTH_OFFSET * d: position and
    depth are then linear functions of the map, which is all that the heads can read.
    """
    gaussian = heatmap_targets(uvd, size, TOKEN_SIGMA)
    raised = DEPTH_OFFSET * uvd[..., 2, None, None]
    return gaussian - gaussian.mean((2, 3), keepdim=True) + raised


def map_error(
        maps: torch.Tensor, targets: torch.Tensor,
        batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean squared error of maps `(N, K, H, H)` of the first K keypoints."""
    return (((maps - targets) ** 2).mean((2, 3)) * trust(batch)[:, :maps.shape[1]]).mean()


def trust(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """
    Weights `(N, 96)` of the keypoints' maps.

    Keypoints that nothing shows count a third: where they are is a guess.
    """
    return batch['uvd_weight'][..., 0] * (1 + 2 * batch['visible']) / 3


def token_map_error(maps: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Error of maps `(N, K, H, H)` of the first K keypoints against `token_map_targets`."""
    targets = token_map_targets(batch['uvd'][:, :maps.shape[1]], maps.shape[-1])
    return map_error(maps, targets, batch)


def loss_terms(
        prediction: Prediction, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weighted terms of what the engine puts out, by name."""
    tokens = prediction.uvd.shape[1]
    camera = (prediction.cam[:, 0] / batch['camera_scale'] - 1).abs()
    terms = {
        'keypoints': keypoint_likelihood(
            prediction.uvd, prediction.sigma, batch['uvd'][:, :tokens],
            batch['uvd_weight'][:, :tokens]),
        'twist': known_mean((prediction.phi - batch['phi']) ** 2, batch['pose_known']),
        'shape': known_mean((prediction.betas - batch['betas']) ** 2, batch['pose_known']),
        'camera': known_mean(camera, batch['camera_known'])}
    return {name: WEIGHTS[name] * value for name, value in terms.items()}


def known_mean(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean of `values` `(N, ...)` over the samples with `known` `(N,)` 1; 0 when there is none."""
    each = values.flatten(1).mean(1) if values.ndim > 1 else values
    return (each * known).sum() / known.sum().clamp(min=1.0)
