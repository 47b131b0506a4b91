# SPDX-License-Identifier: Apache-2.0
"""Classifiers with another kind of downsampling: ResNet-18, and ResNet-50 for small pictures."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from hmr_ros.networks.mgil.downsampling import Downsampling, replace_downsampling
from hmr_ros.networks.resnet import ResNet, RESNET18, RESNET50, ResNetPlan

#: by name; the second one is for pictures of 32 pixels.
PLANS: dict[str, ResNetPlan] = {
    'resnet18': RESNET18, 'resnet50_cifar': replace(RESNET50, stem='cifar')}


class Classifier(ResNet):
    """
    Normalised picture `(N, 3, H, W)` to logits `(N, classes)`.

    backbone  a name of PLANS
    """

    def __init__(
            self, backbone: str, classes: int,
            downsampling: Downsampling = Downsampling()) -> None:
        super().__init__(PLANS[backbone])
        self.fc = nn.Linear(PLANS[backbone].channels, classes)
        replace_downsampling(self, downsampling)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        return self.fc(self.last_map(image).mean((2, 3)))
