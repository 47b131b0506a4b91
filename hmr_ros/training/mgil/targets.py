# SPDX-License-Identifier: Apache-2.0
"""What the two classifications of a keypoint should say (sheet, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Targets:
    """
    Targets of N crops.

    x       (N, K, k W)  of the columns' bins
    y       (N, K, k H)  of the rows' bins
    weight  (N, K)       1, or 0 where a keypoint does not count
    """

    x: torch.Tensor
    y: torch.Tensor
    weight: torch.Tensor


def smoothed_targets(
        points: torch.Tensor, visible: torch.Tensor, bins: tuple[int, int], split_ratio: float,
        smoothing: float = 0.1) -> Targets:
    """
    Targets with label smoothing: 1 - `smoothing` for the nearest bin, the others share the rest.

    points       (N, K, 2) crop pixels, anything where not visible
    visible      (N, K), 0 where a keypoint does not count
    bins         lengths of the vectors x and y
    split_ratio  bins per pixel
    """
    nearest, weight = _nearest(_known(points, visible), visible, bins, split_ratio)
    x, y = (_smoothed(index, count, smoothing) for index, count in zip(nearest.unbind(-1), bins))
    return Targets(x, y, weight)


def gaussian_targets(
        points: torch.Tensor, visible: torch.Tensor, bins: tuple[int, int], split_ratio: float,
        sigma: float) -> Targets:
    """
    Targets that fall off as a normal density of `sigma` bins around the keypoint, not rounded.

    Other arguments as of `smoothed_targets`.
    """
    points = _known(points, visible)
    _, weight = _nearest(points, visible, bins, split_ratio)
    x, y = (_gaussian(split_ratio * place, count, sigma)
            for place, count in zip(points.unbind(-1), bins))
    return Targets(x, y, weight)


def _known(points: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Points that may be NaN where nobody knows them as numbers that weight 0 can undo."""
    return torch.where(visible[..., None] > 0, points, 0.0)


def _nearest(
        points: torch.Tensor, visible: torch.Tensor, bins: tuple[int, int], split_ratio: float
        ) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest bins `(N, K, 2)`, and weights `(N, K)` that are 0 outside the crop."""
    index = (split_ratio * points).round()
    last = index.new_tensor(bins) - 1
    inside = ((index >= 0) & (index <= last)).all(-1)
    weight = (inside & (visible > 0)).to(points.dtype)
    return torch.minimum(index.clamp(min=0), last).long(), weight


def _smoothed(index: torch.Tensor, count: int, smoothing: float) -> torch.Tensor:
    here = functional.one_hot(index, count).float()
    return here * (1 - smoothing) + (1 - here) * (smoothing / (count - 1))


def _gaussian(centre: torch.Tensor, count: int, sigma: float) -> torch.Tensor:
    bins = torch.arange(count, dtype=centre.dtype, device=centre.device)
    density = torch.distributions.Normal(centre[..., None], sigma)
    return density.log_prob(bins).exp()
