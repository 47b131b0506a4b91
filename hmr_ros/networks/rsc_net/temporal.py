# SPDX-License-Identifier: Apache-2.0
"""The causal GRU over a track's features (sheet 2.4)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.rsc_net.prediction import FEATURES, TemporalPrediction
from hmr_ros.networks.rsc_net.regressor import Regressor

LAYERS = 2


class RscTemporal(nn.Module):
    """
    Features of a track in, smoothed bodies and the state to carry on out.

    It looks at the past only, and a whole sequence at once gives what its frames give one by one.

    features        length of the image network's feature
    hidden          width of each of the two GRU layers
    regressor_relu  see Regressor; true with RSC-Net's regressor, false with VIBE's weights
    """

    def __init__(
            self, features: int = FEATURES, hidden: int = 1024,
            regressor_relu: bool = True) -> None:
        super().__init__()
        self.gru = nn.GRU(features, hidden, LAYERS, batch_first=True)
        self.linear = nn.Linear(hidden, features)
        self.regressor = Regressor(features, regressor_relu)

    @property
    def features(self) -> int:
        """Length of the feature it takes."""
        return self.gru.input_size

    @property
    def hidden(self) -> int:
        """Width of the state."""
        return self.gru.hidden_size

    @property
    def regressor_relu(self) -> bool:
        """Whether the regressor has activations; see Regressor."""
        return self.regressor.regressor_relu

    def forward(
            self, feature: torch.Tensor, h_in: torch.Tensor | None = None) -> TemporalPrediction:
        """Map sequences `(N, T, features)` and states `(2, N, hidden)`; None is a new track."""
        y, h_out = self.gru(feature, h_in)
        smooth = feature + self.linear(functional.relu(y))
        return TemporalPrediction(*self.regressor(smooth), h_out)
