# SPDX-License-Identifier: Apache-2.0
"""Normalising flows of the residual log-likelihood loss (sheet 3.1; Dinh et al., RealNVP)."""

from __future__ import annotations

import math

import torch
from torch import nn

COUPLINGS, WIDTH = 6, 64
#: which coordinates a coupling keeps, alternating, by number of dimensions.
MASKS = {2: ((0, 1), (1, 0)), 3: ((0, 0, 1), (1, 1, 0))}


class RealNVP(nn.Module):
    """
    Six affine couplings between a standard normal z and errors x, `(..., 2)` or `(..., 3)`.

    Parameters are named as in the authors' checkpoints.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        masks = MASKS[dimensions] * (COUPLINGS // 2)
        self.register_buffer('mask', torch.tensor(masks, dtype=torch.float32))
        self.s = nn.ModuleList(
            nn.Sequential(*_layers(dimensions), nn.Tanh()) for _ in range(COUPLINGS))
        self.t = nn.ModuleList(nn.Sequential(*_layers(dimensions)) for _ in range(COUPLINGS))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Turn samples z of the normal distribution into errors x."""
        x = z
        for mask, s, t in zip(self.mask, self.s, self.t):
            kept = mask * x
            x = kept + (1 - mask) * (x * torch.exp(s(kept)) + t(kept))
        return x

    def inverse(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z of errors x and the log determinant `(...)` of dz/dx."""
        z, log_determinant = x, torch.zeros_like(x[..., 0])
        for mask, scale, shift in zip(
                reversed(self.mask), reversed(self.s), reversed(self.t)):
            kept = mask * z
            s, t = (1 - mask) * scale(kept), (1 - mask) * shift(kept)
            z = kept + (1 - mask) * (z - t) * torch.exp(-s)
            log_determinant = log_determinant - s.sum(-1)
        return z, log_determinant

    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        """Log density `(...)` of errors x."""
        z, log_determinant = self.inverse(x)
        normal = -0.5 * (z ** 2).sum(-1) - 0.5 * self.dimensions * math.log(2 * math.pi)
        return normal + log_determinant


def _layers(dimensions: int) -> list[nn.Module]:
    return [nn.Linear(dimensions, WIDTH), nn.LeakyReLU(), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(),
            nn.Linear(WIDTH, dimensions)]


class Flows(nn.Module):
    """The two flows: `flow2d` for keypoints without depth, `flow3d` for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.flow2d, self.flow3d = RealNVP(2), RealNVP(3)

    def residual_log_likelihood(
            self, uvd: torch.Tensor, sigma: torch.Tensor, target: torch.Tensor,
            weight: torch.Tensor) -> torch.Tensor:
        """
        Loss of every sample, `(N,)`: the sum over keypoints and coordinates (sheet 3.1).

        uvd, sigma predicted, target and weight labelled, all `(N, K, 3)`; a keypoint whose d has
        no weight goes through the 2D flow.
        """
        error = weight * (uvd - target) / sigma
        deep = weight[..., 2] > 0
        density = torch.where(
            deep, self.flow3d.log_density(error), self.flow2d.log_density(error[..., :2]))
        flow = torch.log(sigma) - density[..., None]
        residual = torch.log(sigma * math.sqrt(2 * math.pi)) + (target - uvd).abs() / (
            math.sqrt(2) * sigma + 1e-9)
        return (weight * (flow + residual)).sum((1, 2))


def mean_of_negative(losses: torch.Tensor) -> torch.Tensor:
    """
    Mean over the samples `(N,)` whose loss is not positive; 0 when there is none.

    From the second epoch on (sheet 3.1): a sample that is still that far off is likely mislabelled.
    """
    good = losses <= 0
    return torch.where(good, losses, 0).sum() / good.sum().clamp(min=1)
