# SPDX-License-Identifier: Apache-2.0
"""The image network: crop and resolution row in, body and feature out (sheet 1.1, 2.1 to 2.3)."""

from __future__ import annotations

import torch
from torch import nn

from hmr_ros.networks.rsc_net.backbone import ScaledResNet50
from hmr_ros.networks.rsc_net.prediction import FEATURES, Prediction
from hmr_ros.networks.rsc_net.regressor import Regressor


class RscNet(nn.Module):
    """Backbone and iterative regressor, the network as deployed."""

    image_size = 224

    def __init__(self, regressor_relu: bool = True) -> None:
        super().__init__()
        self.backbone = ScaledResNet50()
        self.regressor = Regressor(FEATURES, regressor_relu)

    @property
    def regressor_relu(self) -> bool:
        """Whether the regressor has activations; see Regressor."""
        return self.regressor.regressor_relu

    def forward(self, image: torch.Tensor, row: torch.Tensor) -> Prediction:
        """Map normalised crops `(N, 3, 224, 224)` and integer rows `(N,)`, 0 to 4."""
        feature = self.backbone(image, row)
        return Prediction(*self.regressor(feature), feature)


class ContrastiveHead(nn.Sequential):
    """Feature `(N, 2048)` to a projection `(N, 256)`; training only (sheet 2.3)."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(FEATURES, 1024), nn.ReLU(), nn.Linear(1024, 256))
