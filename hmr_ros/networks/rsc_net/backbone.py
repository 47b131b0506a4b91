# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 whose residual branches are scaled by the resolution of the crop (sheet 2.1)."""

from __future__ import annotations

from typing import Iterator

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.residual_blocks import Bottleneck, chain
from hmr_ros.perception.rsc_net import ROWS

#: bottlenecks of the four stages.
STAGES = (3, 4, 6, 3)
BLOCKS = sum(STAGES)


class ScaledResNet50(nn.Module):
    """
    Normalised crop `(N, 3, S, S)` and alpha row `(N,)` to the feature `(N, 2048)`, >= 0.

    The rows of alpha are separate parameters: an optimiser leaves alone what had no gradient.
    Tensors are named as torchvision's but for `alphas.0` to `alphas.4`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = chain(Bottleneck, 64, 64, STAGES[0])
        self.layer2 = chain(Bottleneck, 256, 128, STAGES[1], stride=2)
        self.layer3 = chain(Bottleneck, 512, 256, STAGES[2], stride=2)
        self.layer4 = chain(Bottleneck, 1024, 512, STAGES[3], stride=2)
        self.alphas = nn.ParameterList(torch.ones(BLOCKS) for _ in range(ROWS))

    @property
    def blocks(self) -> Iterator[Bottleneck]:
        """The 16 residual blocks in the order of alpha's columns."""
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            yield from layer

    def stem(self, image: torch.Tensor) -> torch.Tensor:
        """Map crops to the input `(N, 64, S / 4, S / 4)` of the first block."""
        return functional.max_pool2d(functional.relu(self.bn1(self.conv1(image))), 3, 2, 1)

    def forward(self, image: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Compute the feature; `row` holds integers 0 to 4, mixed or not."""
        alpha = torch.stack([self.alphas[r] for r in row.tolist()])
        x = self.stem(image)
        for scale, block in zip(alpha[:, :, None, None, None].unbind(1), self.blocks):
            x = functional.relu(scale * block.residual(x) + block.downsample(x))
        # Half precision would lose small means.
        return x.float().mean((2, 3))
