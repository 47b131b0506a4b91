# SPDX-License-Identifier: Apache-2.0
"""Tells recorded motion from predicted motion; training of the GRU only (sheet 2.5)."""

from __future__ import annotations

import torch
from torch import nn

BODY_WIDTH = 69
HIDDEN = 1024


class MotionDiscriminator(nn.Module):
    """Axis-angles of the 23 body joints over time, `(N, T, 69)`, to one score `(N, 1)`."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(BODY_WIDTH, HIDDEN, 2, batch_first=True)
        self.attention = nn.Sequential(
            nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Dropout(0.2),
            nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Dropout(0.2),
            nn.Linear(HIDDEN, 1), nn.Tanh(), nn.Dropout(0.2))
        self.score = nn.Linear(HIDDEN, 1)
        for layer in self.attention:
            if isinstance(layer, nn.Linear):
                nn.init.uniform_(layer.weight, -0.1, 0.1)
                nn.init.constant_(layer.bias, 0.01)

    def forward(self, body_pose: torch.Tensor) -> torch.Tensor:
        """Compute the scores; 1 is trained to mean recorded, 0 predicted."""
        y, _ = self.gru(body_pose)
        share = self.attention(y).softmax(1)
        return self.score((share * y).sum(1))
