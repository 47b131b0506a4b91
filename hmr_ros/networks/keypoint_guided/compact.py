# SPDX-License-Identifier: Apache-2.0
"""
The compact network: the sheet's tensors from crops of 128 pixels.

It keeps the idea of the published network (96 keypoints in u, v and d, a gated attention unit over
keypoint tokens, twist, shape and camera beside them) and replaces what learns slowly: positions are
expectations over maps of 16x16, tokens are the features found there, and twist is read from the
token of its own joint.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.keypoint_guided.heads import GatedAttention
from hmr_ros.networks.keypoint_guided.network import KEYPOINTS
from hmr_ros.networks.keypoint_guided.prediction import Prediction
from hmr_ros.networks.keypoint_guided.pyramid import PyramidNet

TWISTS = 23
TOKEN_WIDTH, LAYERS = 128, 2


class Reading(NamedTuple):
    """
    What is read from the maps alone, before keypoints learn of each other.

    logits (N, 96, 16, 16): their softmax is where a keypoint may be; uvd (N, 96, 3) expectations.
    """

    logits: torch.Tensor
    uvd: torch.Tensor


class CompactKeypointGuided(nn.Module):
    """PyramidNet with keypoint maps and a reader of tokens; crops of 128 pixels."""

    image_size, keypoints = 128, KEYPOINTS
    feature_width = PyramidNet.coarse_channels + TOKEN_WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.backbone = PyramidNet()
        self.maps = KeypointMaps(self.backbone.channels)
        self.reader = TokenReader(self.backbone.channels, self.backbone.coarse_channels)

    def forward(self, image: torch.Tensor) -> Prediction:
        """Map normalised crops `(N, 3, 128, 128)` to a Prediction."""
        return self.stages(image)[0]

    def stages(self, image: torch.Tensor) -> tuple[Prediction, Reading]:
        """Return the Prediction and the Reading it was made from."""
        fine, coarse = self.backbone(image)
        # Expectations and unnormalised attention need float32, whatever the backbone computes in.
        with torch.autocast(image.device.type, enabled=False):
            reading, tokens = self.maps(fine.float())
            return self.reader(tokens, reading.uvd, coarse.float()), reading


class KeypointMaps(nn.Module):
    """Fine features to maps, expected positions and the features found there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.place = nn.Conv2d(channels, KEYPOINTS, 3, padding=1)
        self.depth = nn.Conv2d(channels, KEYPOINTS, 1)

    def forward(self, fine: torch.Tensor) -> tuple[Reading, torch.Tensor]:
        """Map `(N, C, 16, 16)` to a Reading and tokens `(N, 96, C)`."""
        logits = self.place(fine)
        share = functional.softmax(logits.flatten(2), -1)
        where = cell_centres(int(fine.shape[-1])).to(fine.device)
        depth = (share * self.depth(fine).flatten(2)).sum(-1, keepdim=True)
        tokens = share @ fine.flatten(2).transpose(1, 2)
        return Reading(logits, torch.cat([share @ where, depth], -1)), tokens


@functools.lru_cache(maxsize=8)
def cell_centres(size: int) -> torch.Tensor:
    """Centres u, v `(size * size, 2)` of the cells of a map, row by row, -0.5 to 0.5."""
    cells = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    v, u = np.meshgrid(cells, cells, indexing='ij')
    return torch.from_numpy(np.stack([u.ravel(), v.ravel()], 1))


class TokenReader(nn.Module):
    """Tokens that look at each other, and what is read from them."""

    def __init__(self, channels: int, coarse: int) -> None:
        super().__init__()
        self.embed = nn.Linear(channels + 3, TOKEN_WIDTH)
        self.coarse = nn.Linear(coarse, TOKEN_WIDTH, bias=False)
        self.name = nn.Parameter(0.02 * torch.randn(KEYPOINTS, TOKEN_WIDTH))
        self.layers = nn.ModuleList(
            GatedAttention(TOKEN_WIDTH, 2 * TOKEN_WIDTH, TOKEN_WIDTH // 2) for _ in range(LAYERS))
        # Attention sums over 96 keypoints without a norm; what is read must not grow with it.
        self.norm = nn.LayerNorm(TOKEN_WIDTH)
        self.change = nn.Linear(TOKEN_WIDTH, 3)
        self.sigmas = nn.Linear(TOKEN_WIDTH, 3)
        self.twist = nn.Parameter(0.02 * torch.randn(TWISTS, TOKEN_WIDTH, 2))
        self.body = nn.Sequential(
            nn.Linear(coarse + TOKEN_WIDTH + 3 * KEYPOINTS, 256), nn.ReLU(), nn.Linear(256, 13))
        self.register_buffer('start_twist', torch.tensor([1.0, 0.0]))
        self.register_buffer('start_body', torch.tensor([0.0] * 10 + [0.5, 0.0, 0.0]))
        for layer in (self.change, self.sigmas, self.body[2]):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)

    def forward(
            self, tokens: torch.Tensor, uvd: torch.Tensor, coarse: torch.Tensor) -> Prediction:
        """Read tokens `(N, 96, C)`, first positions `(N, 96, 3)` and coarse features `(N, C)`."""
        x = self.embed(torch.cat([tokens, uvd], -1)) + self.coarse(coarse)[:, None] + self.name
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        uvd = uvd + self.change(x)
        feature = torch.cat([coarse, x.mean(1)], 1)
        body = self.body(torch.cat([feature, uvd.flatten(1)], 1)) + self.start_body
        # Joint i's twist is read from joint i's token.
        phi = (x[:, 1:1 + TWISTS, None] @ self.twist)[:, :, 0] + self.start_twist
        return Prediction(uvd, torch.sigmoid(self.sigmas(x)) + 1e-9, phi, body[:, :10],
                          body[:, 10:], feature)
