# SPDX-License-Identifier: Apache-2.0
"""Losses of the compact network: what its engine puts out, and what its maps show before."""

from __future__ import annotations

import torch
from torch.nn import functional

from hmr_ros.networks.keypoint_guided.compact import Reading
from hmr_ros.networks.keypoint_guided.prediction import Prediction
from hmr_ros.training.keypoint_guided.losses import heatmap_targets, loss_terms, trust

#: spread of the target maps, in cells of an eighth of the crop's side.
MAP_SIGMA = 0.9
#: of u, v and d in the term `first`: depth is what is hardest to see.
FIRST = (1.0, 1.0, 2.0)
MAPS = 3.0
#: of what is read from the maps, in units of the stage's `read_weight`.
READ = {'first': 10.0, 'keypoints': 1.0, 'twist': 2.0, 'shape': 1.5, 'camera': 1.0}


def compact_terms(
        prediction: Prediction, reading: Reading, batch: dict[str, torch.Tensor],
        read_weight: float) -> dict[str, torch.Tensor]:
    """
    Return the weighted terms, by name; `batch` as `training_loader` makes it.

    The maps teach the backbone where things are. What is read from maps that know nothing has
    large gradients that say little, so `read_weight` is small (0.1) until they know something.
    """
    weight = batch['uvd_weight'] * batch['uvd_weight'].new_tensor(FIRST)
    error = (reading.uvd - batch['uvd']).abs() * weight
    terms = {**loss_terms(prediction, batch),
             'first': error.sum() / weight.sum().clamp(min=1.0)}
    weighted = {name: read_weight * READ[name] * value for name, value in terms.items()}
    return {**weighted, 'maps': MAPS * map_divergence(reading.logits, batch)}


def map_divergence(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Kullback-Leibler divergence of maps `(N, K, S, S)` from Gaussians around the keypoints."""
    targets = heatmap_targets(batch['uvd'], logits.shape[-1], MAP_SIGMA).flatten(2)
    targets = targets / targets.sum(-1, keepdim=True).clamp(min=1e-6)
    divergence = functional.kl_div(
        functional.log_softmax(logits.flatten(2), -1), targets, reduction='none').sum(-1)
    return (divergence * trust(batch)).mean()
