# SPDX-License-Identifier: Apache-2.0
"""Losses of the compact network: what its engine puts out, and what its maps show before."""

from __future__ import annotations

import torch
from torch.nn import functional

from hmr_ros.networks.keypoint_guided.compact import Reading
from hmr_ros.networks.keypoint_guided.prediction import Prediction
from hmr_ros.training.keypoint_guided.losses import heatmap_targets, known_mean, loss_terms, trust

#: spread of the target maps, in cells of an eighth of the crop's side.
MAP_SIGMA = 0.9
#: the maps teach the backbone; what is read from them teaches the reader, whose gradients would
#: drown theirs at full weight.
WEIGHTS = {'maps': 3.0, 'first': 1.0, 'keypoints': 0.1, 'twist': 0.2, 'shape': 0.2, 'camera': 0.1}


def compact_terms(
        prediction: Prediction, reading: Reading,
        batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weighted terms, by name; `batch` as `training_loader` makes it."""
    error = (reading.uvd - batch['uvd']).abs() * batch['uvd_weight']
    terms = {**loss_terms(prediction, batch), 'maps': map_divergence(reading.logits, batch),
             'first': error.sum() / batch['uvd_weight'].sum().clamp(min=1.0)}
    return {name: WEIGHTS[name] * value for name, value in terms.items()}


def map_divergence(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Kullback-Leibler divergence of maps `(N, K, S, S)` from Gaussians around the keypoints."""
    targets = heatmap_targets(batch['uvd'], logits.shape[-1], MAP_SIGMA).flatten(2)
    targets = targets / targets.sum(-1, keepdim=True).clamp(min=1e-6)
    divergence = functional.kl_div(
        functional.log_softmax(logits.flatten(2), -1), targets, reduction='none').sum(-1)
    return (divergence * trust(batch)).mean()
