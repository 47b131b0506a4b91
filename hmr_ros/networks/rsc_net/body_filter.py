# SPDX-License-Identifier: Apache-2.0
"""A recurrent filter for engines that give whole bodies: a GRU that sets gains and speeds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.rsc_net.prediction import BETAS_WIDTH, POSE_WIDTH
from hmr_ros.networks.rsc_net.temporal import gru_gates, LAYERS

JOINTS = 24
BODY_WIDTH = POSE_WIDTH + BETAS_WIDTH
#: rows of the state: one for each GRU layer, then the body given out last.
ROWS = LAYERS + 1
DROPOUT = 0.3
#: where the last row says that there was a frame before.
_STARTED = BODY_WIDTH
#: the shape of a body does not change: new evidence weighs little from the start.
_SHAPE_GAIN = -2.0


class FilteredBody(NamedTuple):
    """pose6d (..., 144) and betas (..., 10) of tracks, and the state (3, N, hidden) to carry on."""

    pose6d: torch.Tensor
    betas: torch.Tensor
    h_out: torch.Tensor


class BodyFilter(nn.Module):
    """
    Smooths the bodies that an image engine saw, frame by frame, looking at the past only.

    A Kalman filter whose gain and prediction a GRU learns. The body given out is

        before + speed + gain * (seen + correction - before - speed)

    with one gain per joint and one for the shape, from what was seen, how it differs from the body
    before, and the image engine's feature. In the first frame of a track what was seen stands for
    the body before. Rotations are 6 numbers, which the reader makes orthogonal again.

    features  length of the image engine's feature
    hidden    width of the GRU layers, at least 155
    """

    def __init__(self, features: int, hidden: int = 256) -> None:
        super().__init__()
        self.features, self.hidden = features, hidden
        # Without dropout it learns the people of its training by heart.
        self.feature = nn.Sequential(
            nn.LayerNorm(features), nn.Dropout(DROPOUT), nn.Linear(features, hidden))
        self.body = nn.Linear(2 * BODY_WIDTH, hidden)
        self.dropout = nn.Dropout(DROPOUT)
        self.cells = nn.ModuleList(nn.GRUCell(hidden, hidden) for _ in range(LAYERS))
        self.gain = nn.Linear(hidden, JOINTS + 1)
        self.correction = nn.Linear(hidden, BODY_WIDTH)
        self.speed = nn.Linear(hidden, POSE_WIDTH)
        for head in (self.gain, self.correction, self.speed):
            nn.init.normal_(head.weight, std=0.01 / hidden ** 0.5)
            nn.init.zeros_(head.bias)
        per_joint = torch.arange(JOINTS).repeat_interleave(POSE_WIDTH // JOINTS)
        self.register_buffer(
            'gain_of', torch.cat([per_joint, torch.full((BETAS_WIDTH,), JOINTS)]),
            persistent=False)
        with torch.no_grad():
            self.gain.bias[JOINTS] = _SHAPE_GAIN

    def forward(
            self, feature: torch.Tensor, pose6d: torch.Tensor, betas: torch.Tensor,
            h_in: torch.Tensor | None = None) -> FilteredBody:
        """Map sequences `(N, T, ...)` and states `(3, N, hidden)`; None starts all tracks."""
        state = feature.new_zeros(ROWS, len(feature), self.hidden) if h_in is None else h_in
        frames = []
        for now in zip(feature.unbind(1), pose6d.unbind(1), betas.unbind(1)):
            *body, state = self.step(*now, state)
            frames.append(body)
        poses, shapes = zip(*frames)
        return FilteredBody(torch.stack(poses, 1), torch.stack(shapes, 1), state)

    def step(
            self, feature: torch.Tensor, pose6d: torch.Tensor, betas: torch.Tensor,
            h_in: torch.Tensor) -> FilteredBody:
        """One frame of N tracks: `(N, features)`, `(N, 144)`, `(N, 10)`, `(3, N, hidden)`."""
        seen = torch.cat([pose6d, betas], -1)
        started = h_in[LAYERS, :, _STARTED:_STARTED + 1]
        before = h_in[LAYERS, :, :BODY_WIDTH] + (1 - started) * seen
        x = self.feature(feature) + self.body(torch.cat([seen, 10 * (seen - before)], -1))
        x, rows = self.dropout(functional.relu(x)), []
        for layer, cell in enumerate(self.cells):
            x = gru_gates(
                x, h_in[layer], cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
            rows.append(x)
        body = self._blend(x, seen, before)
        with_mark = functional.pad(body, (0, 1), value=1.0)
        rows.append(functional.pad(with_mark, (0, self.hidden - BODY_WIDTH - 1)))
        return FilteredBody(body[:, :POSE_WIDTH], body[:, POSE_WIDTH:], torch.stack(rows))

    def _blend(
            self, x: torch.Tensor, seen: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        gain = torch.sigmoid(self.gain(x)).index_select(1, self.gain_of)
        ahead = before + functional.pad(self.speed(x), (0, BETAS_WIDTH))
        return ahead + gain * (seen + self.correction(x) - ahead)
