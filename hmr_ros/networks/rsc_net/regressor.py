# SPDX-License-Identifier: Apache-2.0
"""From a feature to a body in three corrections of the mean body (sheet 2.2)."""

from __future__ import annotations

import torch
from torch import nn

from hmr_ros.networks.rsc_net.prediction import (
    BETAS_WIDTH, Body, CAMERA_WIDTH, FEATURES, POSE_WIDTH, STATE_WIDTH, WIDTHS)

ITERATIONS = 3
HIDDEN = 1024
#: 6D of a person who stands upright before the camera: turned by pi about x.
UPRIGHT = (1.0, 0.0, 0.0, -1.0, 0.0, 0.0)
UNBENT = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


class Regressor(nn.Module):
    """
    Feature `(..., features)` to a Body; `init_*` hold the mean body that it starts from.

    regressor_relu  whether fc1 and fc2 have activations: true of RSC-Net's weights, false of SPIN's
                    and VIBE's. The wrong setting raises nothing and gives wrong bodies.
    """

    def __init__(self, features: int = FEATURES, regressor_relu: bool = True) -> None:
        super().__init__()
        self.regressor_relu = regressor_relu
        self.fc1 = nn.Linear(features + STATE_WIDTH, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.activation = nn.ReLU() if regressor_relu else nn.Identity()
        self.dropout = nn.Dropout(0.5)
        self.pose = nn.Linear(HIDDEN, POSE_WIDTH)
        self.betas = nn.Linear(HIDDEN, BETAS_WIDTH)
        self.camera = nn.Linear(HIDDEN, CAMERA_WIDTH)
        for decoder in (self.pose, self.betas, self.camera):
            nn.init.xavier_uniform_(decoder.weight, gain=0.01)
        self.register_buffer('init_pose', torch.tensor(UPRIGHT + 23 * UNBENT))
        self.register_buffer('init_betas', torch.zeros(BETAS_WIDTH))
        self.register_buffer('init_camera', torch.tensor([0.9, 0.0, 0.0]))

    @property
    def start(self) -> torch.Tensor:
        """The state `(157,)` before the first correction."""
        return torch.cat([self.init_pose, self.init_betas, self.init_camera])

    def forward(self, feature: torch.Tensor) -> Body:
        """Compute the body, in float32: the corrections are small against the state."""
        with torch.autocast(feature.device.type, enabled=False):
            feature = feature.float()
            state = self.start.expand(*feature.shape[:-1], STATE_WIDTH)
            for _ in range(ITERATIONS):
                state = state + self.correction(feature, state)
            return Body(*state.split(WIDTHS, -1))

    def correction(self, feature: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """What one iteration adds to `state` `(..., 157)`."""
        x = self.dropout(self.activation(self.fc1(torch.cat([feature, state], -1))))
        x = self.dropout(self.activation(self.fc2(x)))
        return torch.cat([self.pose(x), self.betas(x), self.camera(x)], -1)
