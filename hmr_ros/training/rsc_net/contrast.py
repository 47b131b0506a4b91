# SPDX-License-Identifier: Apache-2.0
"""The contrastive loss between resolutions and its queue of negatives (sheet 3.2)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

#: of the paper: negatives that are kept, and the temperature.
LENGTH, TEMPERATURE = 8192, 0.1
_NOBODY = -1


class ProjectionQueue(nn.Module):
    """The newest projections `(length, 256)`, L2-normalised, with the sample each came from."""

    def __init__(self, length: int = LENGTH, width: int = 256) -> None:
        super().__init__()
        self.register_buffer('projections', torch.zeros(length, width))
        self.register_buffer('samples', torch.full((length,), _NOBODY))
        self.register_buffer('place', torch.zeros((), dtype=torch.long))

    def push(self, projections: torch.Tensor, samples: torch.Tensor) -> None:
        """Put in projections `(N, 256)` of samples `(N,)`; the oldest go."""
        count = len(samples)
        rows = (self.place + torch.arange(count, device=samples.device)) % len(self.samples)
        self.projections[rows] = functional.normalize(projections.detach(), dim=-1)
        self.samples[rows] = samples
        self.place.fill_((int(self.place) + count) % len(self.samples))

    def loss(
            self, low: torch.Tensor, high: torch.Tensor,
            samples: torch.Tensor) -> torch.Tensor:
        """
        InfoNCE of low-resolution projections `(N, 256)` against their high-resolution ones.

        No gradient reaches `high`; entries of the same sample are no negatives.
        """
        low = functional.normalize(low, dim=-1)
        high = functional.normalize(high.detach(), dim=-1)
        positive = (low * high).sum(-1, keepdim=True)
        negative = low @ self.projections.T
        out = (self.samples == samples[:, None]) | (self.samples == _NOBODY)
        negative = negative.masked_fill(out, float('-inf'))
        logits = torch.cat([positive, negative], -1) / TEMPERATURE
        return functional.cross_entropy(logits, torch.zeros_like(samples))
