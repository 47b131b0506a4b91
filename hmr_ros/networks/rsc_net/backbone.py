# SPDX-License-Identifier: Apache-2.0
"""Backbones whose residual branches are scaled by the resolution of the crop (sheet 2.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.keypoint_guided.compact import KeypointMaps
from hmr_ros.networks.keypoint_guided.network import KEYPOINTS
from hmr_ros.networks.keypoint_guided.pyramid import PyramidNet
from hmr_ros.networks.residual_blocks import BasicBlock, Bottleneck
from hmr_ros.networks.resnet import ResNet, RESNET50
from hmr_ros.perception.rsc_net import ROWS

#: bottlenecks of the four stages of ResNet-50.
STAGES = RESNET50.counts
Scale = torch.Tensor | None


class ScaledBackbone(nn.Module):
    """
    Normalised crop `(N, 3, S, S)` and alpha row `(N,)` to the feature `(N, features)`.

    The rows of alpha are separate parameters: an optimiser leaves alone what had no gradient.
    """

    features: int
    image_size: int
    alphas: nn.ParameterList

    @property
    def layers(self) -> tuple[nn.Sequential, ...]:
        """The stages of residual blocks."""
        raise NotImplementedError

    @property
    def blocks(self) -> Iterator[BasicBlock | Bottleneck]:
        """The residual blocks in the order of alpha's columns."""
        for layer in self.layers:
            yield from layer

    def forward(self, image: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Compute the feature; `row` holds integers 0 to 4, mixed or not."""
        alpha = torch.stack([self.alphas[r] for r in row.tolist()])
        return self.scaled(image, alpha[:, :, None, None, None].unbind(1))

    def scaled(self, image: torch.Tensor, scales: Iterable[Scale]) -> torch.Tensor:
        """Compute the feature with one scale for each block: `(N, 1, 1, 1)`, or None for 1."""
        raise NotImplementedError


def through(layer: nn.Sequential, x: torch.Tensor, scales: Iterator[Scale]) -> torch.Tensor:
    """Take `x` through the blocks of a stage, whose scales are the next ones."""
    # The layer first: when it ends, zip must not have taken a scale of the next one.
    for block, scale in zip(layer, scales):
        residual = block.residual(x) if scale is None else scale * block.residual(x)
        x = functional.relu(residual + block.downsample(x))
    return x


class ScaledResNet50(ScaledBackbone, ResNet):
    """The published one: mean features `(N, 2048)`, >= 0; tensors named as torchvision's."""

    features, image_size = 2048, 224
    layers = ResNet.layers

    def __init__(self) -> None:
        super().__init__(RESNET50)
        self.alphas = nn.ParameterList(torch.ones(sum(STAGES)) for _ in range(ROWS))

    def scaled(self, image: torch.Tensor, scales: Iterable[Scale]) -> torch.Tensor:
        """See ScaledBackbone."""
        x, scales = self.stem(image), iter(scales)
        for layer in self.layers:
            x = through(layer, x, scales)
        # Half precision would lose small means.
        return x.float().mean((2, 3))


class ScaledPyramid(ScaledBackbone):
    """
    The compact one, for crops of 96 pixels: the backbone of the compact keypoint_guided, scaled.

    A mean over the picture forgets where things are, and learns it back slowly. So the feature
    `(N, 672)` holds the means of the last stage, >= 0, and where 96 keypoints of the body are
    expected: u, v and d, POSITION_GAIN times as large so that they weigh as much as the means.
    """

    #: what the feature begins with, and what the positions behind it are multiplied by.
    MEANS, POSITION_GAIN = PyramidNet.coarse_channels, 4.0
    features, image_size = MEANS + 3 * KEYPOINTS, 96

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = PyramidNet()
        self.maps = KeypointMaps(self.pyramid.channels)
        self.alphas = nn.ParameterList(
            torch.ones(sum(map(len, self.layers))) for _ in range(ROWS))

    @property
    def layers(self) -> tuple[nn.Sequential, ...]:
        """The four stages."""
        net = self.pyramid
        return net.layer1, net.layer2, net.layer3, net.layer4

    def scaled(self, image: torch.Tensor, scales: Iterable[Scale]) -> torch.Tensor:
        """See ScaledBackbone."""
        scales = iter(scales)
        fine, coarse = self.pyramid.features(image, lambda layer, x: through(layer, x, scales))
        # Expectations need float32, whatever the backbone computes in.
        with torch.autocast(image.device.type, enabled=False):
            reading, _ = self.maps(fine.float())
            return torch.cat([coarse.float(), self.POSITION_GAIN * reading.uvd.flatten(1)], 1)


#: by the names that weights files and training configurations use.
BACKBONES: dict[str, type[ScaledBackbone]] = {
    'resnet50': ScaledResNet50, 'compact': ScaledPyramid}
