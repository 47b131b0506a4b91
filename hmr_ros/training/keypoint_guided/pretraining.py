# SPDX-License-Identifier: Apache-2.0
"""Pretraining of the backbone in 2D with a keypoint decoder (sheet 2.1 and 3.3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hmr_ros.evaluation.metrics import LIMB_JOINTS
from hmr_ros.training.keypoint_guided.losses import heatmap_targets

KEYPOINTS, WIDTH, HEATMAP_SIZE, SIGMA = 17, 256, 64, 2.0
#: brings the mean squared error of mostly empty maps to about 1 at the start.
SCALE = 300.0
#: left-right partner of each of COCO's keypoints.
SWAP = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])


class PretrainingDecoder(nn.Sequential):
    """f `(N, C, 8, 8)` to 17 heat-maps `(N, 17, 64, 64)`, coarse to fine; dropped afterwards."""

    def __init__(self, channels: int) -> None:
        layers: list[nn.Module] = []
        for inputs in (channels, WIDTH, WIDTH):
            layers += [nn.ConvTranspose2d(inputs, WIDTH, 4, 2, 1, bias=False),
                       nn.BatchNorm2d(WIDTH), nn.ReLU()]
        super().__init__(*layers, nn.Conv2d(WIDTH, KEYPOINTS, 1))


def pretraining_loss(heatmaps: torch.Tensor, coco: torch.Tensor) -> torch.Tensor:
    """
    Mean squared error of heat-maps against Gaussians, over labelled keypoints.

    coco `(N, 17, 3)`: u, v in the crop, -0.5 to 0.5, and weight.
    """
    size = heatmaps.shape[-1]
    targets = heatmap_targets(coco, size, SIGMA * size / HEATMAP_SIZE)
    weight = coco[..., 2]
    error = ((heatmaps - targets) ** 2).mean((2, 3))
    return SCALE * (error * weight).sum() / weight.sum().clamp(min=1.0)


def coco_labels(uvd: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Labels (17, 3) from keypoints (96, 3) and weights (96, 3); the face has none."""
    # COCO's keypoints from the fifth on are the limb joints, in the same order.
    labels = np.zeros((KEYPOINTS, 3), np.float32)
    labels[5:, :2], labels[5:, 2] = uvd[LIMB_JOINTS, :2], weight[LIMB_JOINTS, 0]
    return labels
