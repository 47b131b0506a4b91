# SPDX-License-Identifier: Apache-2.0
"""Keypoint tokens, gated attention and the linear trunk (sheet 2.2 to 2.4)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

MARKERS_FROM = 29
TOKEN_WIDTH, GATE_WIDTH, KEY_WIDTH = 256, 512, 128
TOKEN_MAP = 8


class ScaleNorm(nn.Module):
    """g * x / max(rms(x), 1e-5) with one learned scalar g."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = width ** -0.5
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise the last axis, in float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.scale
            return self.g * x / rms.clamp(min=1e-5)


class KeypointTokens(nn.Module):
    """Feature map `(N, C, 8, 8)` to keypoint maps, and those to tokens `(N, K, 256)`."""

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, keypoints, 7, padding=3)
        self.norm = ScaleNorm(TOKEN_MAP * TOKEN_MAP)
        self.linear = nn.Linear(TOKEN_MAP * TOKEN_MAP, TOKEN_WIDTH, bias=False)

    def maps(self, f: torch.Tensor) -> torch.Tensor:
        """One map `(N, K, 8, 8)` per keypoint; those of smaller crops are stretched to 8x8."""
        maps = self.conv(f)
        if maps.shape[-1] != TOKEN_MAP:
            maps = functional.interpolate(
                maps, size=(TOKEN_MAP, TOKEN_MAP), mode='bilinear', align_corners=False)
        return maps

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Turn maps `(N, K, 8, 8)` into tokens."""
        return self.linear(self.norm(maps.flatten(2)))


class GatedAttention(nn.Module):
    """One gated attention unit over the keypoints: squared ReLU, no softmax, no bias terms."""

    def __init__(
            self, width: int = TOKEN_WIDTH, gate_width: int = GATE_WIDTH,
            key_width: int = KEY_WIDTH) -> None:
        super().__init__()
        self.widths = [gate_width, gate_width, key_width]
        self.norm = ScaleNorm(width)
        self.uv = nn.Linear(width, sum(self.widths), bias=False)
        self.gamma = nn.Parameter(torch.rand(2, key_width))
        self.beta = nn.Parameter(torch.rand(2, key_width))
        self.out = nn.Linear(gate_width, width, bias=False)
        self.residual_scale = nn.Parameter(torch.ones(width))
        nn.init.xavier_uniform_(self.uv.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens `(N, K, width)` to tokens; the unnormalised square stays in float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            u, v, b = functional.silu(self.uv(self.norm(x))).split(self.widths, -1)
            query, key = b * self.gamma[0] + self.beta[0], b * self.gamma[1] + self.beta[1]
            attention = functional.relu(
                query @ key.transpose(-1, -2) * self.widths[-1] ** -0.5) ** 2
            return x * self.residual_scale + self.out(u * (attention @ v))


class CoordinateHeads(nn.Module):
    """Six linear maps 256 -> 1: u, v, d and their raw sigmas, stacked to two 3x256 matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.coordinates = nn.Linear(TOKEN_WIDTH, 3, bias=False)
        self.sigmas = nn.Linear(TOKEN_WIDTH, 3, bias=False)
        for layer in (self.coordinates, self.sigmas):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return uvd `(N, K, 3)` and sigma `(N, K, 3)` in (0, 1]."""
        return self.coordinates(tokens), torch.sigmoid(self.sigmas(tokens)) + 1e-9


class Trunk(nn.Module):
    """Shape, camera and twist from the pooled features: purely linear (sheet 2.4 and 6)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(features, 1024), nn.Linear(1024, 1024)
        self.dropout = nn.Dropout(0.5)
        self.shape, self.camera, self.twist = (nn.Linear(1024, n) for n in (10, 3, 46))
        self.register_buffer('init_shape', torch.zeros(10))
        self.register_buffer('init_camera', torch.tensor([0.9, 0.0, 0.0]))
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)

    def forward(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return betas `(N, 10)`, cam `(N, 3)` and phi `(N, 23, 2)`."""
        x = self.dropout(self.fc2(self.dropout(self.fc1(pooled))))
        phi = self.twist(x).unflatten(-1, (23, 2))
        return self.shape(x) + self.init_shape, self.camera(x) + self.init_camera, phi


class FoldedTrunk(nn.Module):
    """The trunk as the one affine map it is at inference (sheet 7.4)."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        weight = torch.cat(
            [trunk.shape.weight, trunk.camera.weight, trunk.twist.weight]).double()
        bias = torch.cat([
            trunk.shape.bias + trunk.init_shape, trunk.camera.bias + trunk.init_camera,
            trunk.twist.bias]).double()
        fc1, fc2 = trunk.fc1, trunk.fc2
        inner = fc2.weight.double() @ fc1.bias.double() + fc2.bias.double()
        self.linear = nn.Linear(fc1.in_features, 59)
        with torch.no_grad():
            self.linear.weight.copy_(weight @ fc2.weight.double() @ fc1.weight.double())
            self.linear.bias.copy_(weight @ inner + bias)

    def forward(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return betas, cam and phi as Trunk does."""
        betas, cam, phi = self.linear(pooled).split([10, 3, 46], -1)
        return betas, cam, phi.unflatten(-1, (23, 2))
