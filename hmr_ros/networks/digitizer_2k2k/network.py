# SPDX-License-Identifier: Apache-2.0
"""All networks of the digitizer together (sheet, section 3)."""

from __future__ import annotations

import math

import torch
from torch import nn

from hmr_ros.networks.digitizer_2k2k.depth import LowDepthNet
from hmr_ros.networks.digitizer_2k2k.normals import NormalNet
from hmr_ros.networks.digitizer_2k2k.refinement import HighDepthNet
from hmr_ros.networks.digitizer_2k2k.variants import Variant
from hmr_ros.perception.digitizer.parts import PATCHES

#: colours, and normals of the front at low resolution.
_PART_INPUT = 6


class Digitizer(nn.Module):
    """
    Eight networks, each called by itself: between them the host cuts and blends patches.

    parts        of the names of PATCHES: patches `(N, 6, h, w)` of image and front normals to
                 normals `(N, 6, h, w)` of front and back
    low_normals  image at an eighth `(N, 3, H, W)` to normals `(N, 6, H, W)`
    low_depth    both of these to `(N, 3, H, W)`, see LowDepthNet
    high_depth   see HighDepthNet
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.parts = nn.ModuleDict({
            name: NormalNet(_PART_INPUT, variant) for name in PATCHES})
        self.low_normals = NormalNet(3, variant)
        self.low_depth = LowDepthNet(variant)
        self.high_depth = HighDepthNet(variant)

    def low(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map the image at an eighth `(N, 3, H, W)` to its normals and depths, see Digitizer."""
        normals = self.low_normals(image)
        return normals, self.low_depth(image, normals)


def build_network(variant: Variant = Variant()) -> Digitizer:
    """Build the networks with the sheet's random start."""
    network = Digitizer(variant)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, std=math.sqrt(2 / (kernel * module.out_channels)))
    return network
