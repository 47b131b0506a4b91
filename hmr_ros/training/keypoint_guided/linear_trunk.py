# SPDX-License-Identifier: Apache-2.0
"""
The best trunk for a trained backbone, in closed form.

The trunk is linear from the pooled features to shape, camera and twist (sheet 2.4), so what
gradient steps look for is a ridge regression on recorded features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from hmr_ros.networks.keypoint_guided.heads import Trunk
from hmr_ros.training.keypoint_guided.module import KeypointGuidedModule

#: tried on every fifth sample, in units of the features' variance times the samples.
RIDGES = 10.0 ** np.arange(-4, 4)
#: rows of the trunk's output: betas, then s of the camera, then twists.
BETAS, SCALE, TWISTS = slice(0, 10), slice(10, 11), slice(13, 59)
OUTPUTS = 59


@dataclass(frozen=True)
class Recorded:
    """Features (N, F), targets (N, 59) and how much each counts (N, 59), float64."""

    features: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


def record(
        module: KeypointGuidedModule, batches: Iterator[dict[str, torch.Tensor]],
        samples: int) -> Recorded:
    """Run the network on at least `samples` samples and keep what its trunk sees."""
    features, targets, weights, count = [], [], [], 0
    module.eval()
    for batch in batches:
        with torch.no_grad():
            image = module.normalised(batch['image'].to(module.device))
            features.append(module.network(image).feature.cpu().double().numpy())
        people, scale = len(batch['image']), batch['camera_scale'].double().numpy()
        target, weight = np.zeros((2, people, OUTPUTS))
        target[:, BETAS] = batch['betas'].numpy()
        target[:, SCALE] = scale[:, None]
        target[:, TWISTS] = batch['phi'].flatten(1).numpy()
        weight[:, BETAS] = weight[:, TWISTS] = batch['pose_known'].numpy()[:, None]
        # An error of the scale counts relative to it, as an error of the distance does.
        weight[:, SCALE] = (batch['camera_known'].numpy() / scale ** 2)[:, None]
        targets.append(target)
        weights.append(weight)
        count += people
        if count >= samples:
            break
    return Recorded(*(np.concatenate(rows) for rows in (features, targets, weights)))


def fit_trunk(trunk: Trunk, recorded: Recorded) -> dict[str, float]:
    """
    Set `trunk` to the ridge regression of `recorded`; tx and ty become constants.

    Returns the share of the variance that it explains on samples it was not fitted to, by output.
    """
    held_out = np.arange(len(recorded.features)) % 5 == 0
    weight, bias = np.zeros((OUTPUTS, recorded.features.shape[1])), np.zeros(OUTPUTS)
    bias[11:13] = trunk.init_camera[1:].double().cpu().numpy()
    explained = {}
    for name, rows in (('betas', BETAS), ('scale', SCALE), ('twists', TWISTS)):
        importance = recorded.weights[:, rows.start]
        if not np.any(importance[held_out]) or not np.any(importance[~held_out]):
            continue
        x, y = recorded.features, recorded.targets[:, rows]
        fits = [ridge(x[~held_out], y[~held_out], importance[~held_out], r) for r in RIDGES]
        losses = [_loss(x, y, importance * held_out, fit) for fit in fits]
        best = int(np.argmin(losses))
        weight[rows], bias[rows] = fits[best]
        mean = np.average(y, axis=0, weights=importance * held_out)
        explained[name] = 1 - losses[best] / _loss(
            x, y, importance * held_out, (np.zeros_like(weight[rows]), mean))
    set_affine(trunk, weight, bias)
    return explained


def ridge(
        x: np.ndarray, y: np.ndarray, importance: np.ndarray,
        strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Weighted ridge regression of y (N, K) on x (N, F): matrix (K, F) and offset (K,)."""
    total = importance.sum()
    x_mean, y_mean = importance @ x / total, importance @ y / total
    centred = x - x_mean
    spread = np.sqrt(importance @ centred ** 2 / total) + 1e-8
    scaled = centred / spread
    gram = (scaled * importance[:, None]).T @ scaled
    moment = (scaled * importance[:, None]).T @ (y - y_mean)
    solution = np.linalg.solve(gram + strength * total * np.eye(len(gram)), moment)
    matrix = (solution / spread[:, None]).T
    return matrix, y_mean - matrix @ x_mean


def _loss(
        x: np.ndarray, y: np.ndarray, importance: np.ndarray,
        fit: tuple[np.ndarray, np.ndarray]) -> float:
    error = (x @ fit[0].T + fit[1] - y) ** 2
    return float(np.sum(error * importance[:, None]))


def set_affine(trunk: Trunk, weight: np.ndarray, bias: np.ndarray) -> None:
    """Make `trunk` the affine map `weight` (59, F), `bias` (59,); its other units stay as spare."""
    matrix, offset = (torch.from_numpy(values).to(trunk.fc1.weight) for values in (weight, bias))
    with torch.no_grad():
        trunk.fc1.weight[:OUTPUTS], trunk.fc1.bias[:OUTPUTS] = matrix, offset
        trunk.fc2.weight[:OUTPUTS], trunk.fc2.bias[:OUTPUTS] = 0.0, 0.0
        trunk.fc2.weight[:OUTPUTS, :OUTPUTS] = torch.eye(OUTPUTS)
        constants = (trunk.init_shape, trunk.init_camera, None)
        first = 0
        for layer, constant in zip((trunk.shape, trunk.camera, trunk.twist), constants):
            rows = layer.out_features
            layer.weight.zero_()
            layer.weight[:, first:first + rows] = torch.eye(rows)
            layer.bias.zero_()
            if constant is not None:
                layer.bias -= constant
            first += rows
