# SPDX-License-Identifier: Apache-2.0
"""2D keypoints by two classifications each, SimCC: HRNet and ResNet (sheet, sections 1 to 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from hmr_ros.networks.hrnet import HRNet, HRNetPlan, W32, W48
from hmr_ros.networks.keypoint_guided.pyramid import PyramidNet, Rise, WIDTHS
from hmr_ros.networks.mgil.downsampling import Downsampling, replace_downsampling
from hmr_ros.networks.resnet import ResNet, RESNET50

#: HRNets of half and three quarters of W32's width and a third of its blocks, for processors; TINY
#: also halves what comes before the branches, where downsampling costs most.
TINY = HRNetPlan((16, 32, 64, 128), modules=(1, 1, 1), blocks=2, stem=16, bottlenecks=1)
SMALL = HRNetPlan((16, 32, 64, 128), modules=(1, 2, 1), blocks=2, stem=32, bottlenecks=1)
MEDIUM = HRNetPlan((24, 48, 96, 192), modules=(1, 2, 1), blocks=2, stem=32, bottlenecks=1)
#: width of the maps behind the transposed convolutions of ResNet.
DECONVOLVED = 256
#: maps of a joint without transposed convolutions, at 256x192 and below.
FREE_MAPS = {(256, 192): 28}
FREE_MAPS_ELSEWHERE = 32


@dataclass(frozen=True)
class PoseVariant:
    """
    Which pose network.

    backbone       a name of BACKBONES
    downsampling   how it halves its maps
    height, width  of the crop in pixels, multiples of 32
    split_ratio    bins per pixel
    keypoints      17 of COCO, 16 of MPII
    """

    backbone: str = 'small'
    downsampling: Downsampling = Downsampling()
    height: int = 64
    width: int = 64
    split_ratio: float = 3
    keypoints: int = 17

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f'backbone of the pose network is {self.backbone!r}; allowed: '
                             f'{", ".join(BACKBONES)}')
        if self.height % 32 or self.width % 32 or min(self.height, self.width) < 32:
            raise ValueError(f'crops of {self.width}x{self.height} pixels; both must be multiples '
                             'of 32')

    @property
    def bins(self) -> tuple[int, int]:
        """Lengths of the vectors x and y."""
        return round(self.split_ratio * self.width), round(self.split_ratio * self.height)


def square(backbone: str, downsampling: Downsampling, size: int) -> PoseVariant:
    """Variant for COCO crops of `size` pixels with its published split ratio, 3 below 128."""
    return PoseVariant(backbone, downsampling, size, size, 3 if size < 128 else 2)


class PoseNetwork(nn.Module):
    """Trunk, a 1x1 convolution to maps of keypoints, and a linear layer each for x and y."""

    variant: PoseVariant
    final_layer: nn.Conv2d
    mlp_head_x: nn.Linear
    mlp_head_y: nn.Linear

    def add_head(self, variant: PoseVariant, channels: int, stride: int, maps: int = 1) -> None:
        """Add the layers that read features `(N, channels, H / stride, W / stride)`."""
        self.variant = variant
        cells = maps * (variant.height // stride) * (variant.width // stride)
        x, y = variant.bins
        self.final_layer = nn.Conv2d(channels, maps * variant.keypoints, 1)
        self.mlp_head_x = nn.Linear(cells, x)
        self.mlp_head_y = nn.Linear(cells, y)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Compute what the head reads."""
        raise NotImplementedError

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map crops `(N, 3, H, W)` to logits `simcc_x` `(N, K, kW)`, `simcc_y` `(N, K, kH)`."""
        maps = self.final_layer(self.features(image))
        # Several maps of a joint follow each other; with one this is a plain flatten.
        flat = maps.reshape(-1, self.variant.keypoints, self.mlp_head_x.in_features)
        return self.mlp_head_x(flat), self.mlp_head_y(flat)


class HRNetPose(PoseNetwork, HRNet):
    """HRNet; the head reads its finest branch."""

    def __init__(self, variant: PoseVariant, plan: HRNetPlan) -> None:
        super().__init__(replace(plan, last=1))
        self.add_head(variant, plan.widths[0], 4)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """See PoseNetwork: `(N, C, H / 4, W / 4)`."""
        return self.maps(image)[0]


class ResNetPose(PoseNetwork, ResNet):
    """ResNet-50 and three transposed convolutions, which take its last map back to H / 4."""

    def __init__(self, variant: PoseVariant) -> None:
        super().__init__(RESNET50)
        layers: list[nn.Module] = []
        for channels in (RESNET50.channels, DECONVOLVED, DECONVOLVED):
            layers += [nn.ConvTranspose2d(channels, DECONVOLVED, 4, 2, 1, bias=False),
                       nn.BatchNorm2d(DECONVOLVED), nn.ReLU()]
        self.deconv_layers = nn.Sequential(*layers)
        self.add_head(variant, DECONVOLVED, 4)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """See PoseNetwork: `(N, 256, H / 4, W / 4)`."""
        return self.deconv_layers(self.last_map(image))


class PyramidPose(PoseNetwork, PyramidNet):
    """
    The backbone of the compact keypoint_guided, taken up to H / 4.

    Not of the paper: what that network has learned of people is where this one begins.
    """

    RISEN = 64

    def __init__(self, variant: PoseVariant) -> None:
        super().__init__()
        self.rise1 = Rise(self.channels, WIDTHS[0], self.RISEN)
        self.add_head(variant, self.RISEN, 4)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """See PoseNetwork: `(N, 64, H / 4, W / 4)`."""
        first, fine, _ = self.maps(image, lambda layer, x: layer(x))
        return self.rise1(fine, first)


class UpsampleFreePose(PoseNetwork, ResNet):
    """ResNet-50; the head reads several coarse maps of each joint."""

    def __init__(self, variant: PoseVariant) -> None:
        super().__init__(RESNET50)
        maps = FREE_MAPS.get((variant.height, variant.width), FREE_MAPS_ELSEWHERE)
        self.add_head(variant, RESNET50.channels, 32, maps)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """See PoseNetwork: `(N, 2048, H / 32, W / 32)`."""
        return self.last_map(image)


BACKBONES: dict[str, Callable[[PoseVariant], PoseNetwork]] = {
    'w32': lambda variant: HRNetPose(variant, W32),
    'w48': lambda variant: HRNetPose(variant, W48),
    'resnet50': ResNetPose,
    'resnet50_upsample_free': UpsampleFreePose,
    'pyramid': PyramidPose,
    'tiny': lambda variant: HRNetPose(variant, TINY),
    'small': lambda variant: HRNetPose(variant, SMALL),
    'medium': lambda variant: HRNetPose(variant, MEDIUM)}


def build_pose(variant: PoseVariant) -> PoseNetwork:
    """Build the network of a variant, with random weights."""
    network = BACKBONES[variant.backbone](variant)
    replace_downsampling(network, variant.downsampling)
    return network
