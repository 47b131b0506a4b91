# SPDX-License-Identifier: Apache-2.0
"""The image network: crop and resolution row in, body and feature out (sheet 1.1, 2.1 to 2.3)."""

from __future__ import annotations

import torch
from torch import nn

from hmr_ros.networks.rsc_net.backbone import BACKBONES
from hmr_ros.networks.rsc_net.prediction import FEATURES, Prediction
from hmr_ros.networks.rsc_net.regressor import Regressor


class RscNet(nn.Module):
    """
    Backbone and iterative regressor, the network as deployed.

    backbone  resnet50, the published one, or compact; see `backbone.BACKBONES`
    """

    def __init__(self, regressor_relu: bool = True, backbone: str = 'resnet50') -> None:
        super().__init__()
        self.backbone = BACKBONES[backbone]()
        self.regressor = Regressor(self.features, regressor_relu)

    @property
    def image_size(self) -> int:
        """Side of the crops in pixels."""
        return self.backbone.image_size

    @property
    def features(self) -> int:
        """Length of the feature."""
        return self.backbone.features

    @property
    def regressor_relu(self) -> bool:
        """Whether the regressor has activations; see Regressor."""
        return self.regressor.regressor_relu

    def forward(self, image: torch.Tensor, row: torch.Tensor) -> Prediction:
        """Map normalised crops `(N, 3, S, S)` and integer rows `(N,)`, 0 to 4."""
        feature = self.backbone(image, row)
        return Prediction(*self.regressor(feature), feature)


class ContrastiveHead(nn.Sequential):
    """Feature `(N, features)` to a projection `(N, 256)`; training only (sheet 2.3)."""

    def __init__(self, features: int = FEATURES) -> None:
        super().__init__(nn.Linear(features, 1024), nn.ReLU(), nn.Linear(1024, 256))
