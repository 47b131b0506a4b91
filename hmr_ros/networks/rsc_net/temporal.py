# SPDX-License-Identifier: Apache-2.0
"""The causal GRU over a track's features (sheet 2.4)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.rsc_net.prediction import FEATURES, TemporalPrediction
from hmr_ros.networks.rsc_net.regressor import Regressor

LAYERS = 2


def gru_gates(
        x: torch.Tensor, h: torch.Tensor, weight_ih: torch.Tensor, weight_hh: torch.Tensor,
        bias_ih: torch.Tensor, bias_hh: torch.Tensor) -> torch.Tensor:
    """
    Compute the next state `(N, H)` of one GRU layer from plain products, as engines like it.

    x (N, I), h (N, H); weights and biases with the rows of r, z and n, as torch has them.
    """
    # A plain number: what is read off the inputs becomes nodes of the exported graph.
    width = int(weight_hh.shape[1])
    (r_x, z_x, n_x), (r_h, z_h, n_h) = (
        functional.linear(value, weight, bias).split(width, -1)
        for value, weight, bias in ((x, weight_ih, bias_ih), (h, weight_hh, bias_hh)))
    keep = torch.sigmoid(z_x + z_h)
    new = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
    return (1 - keep) * new + keep * h


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
