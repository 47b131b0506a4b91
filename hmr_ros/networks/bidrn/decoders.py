# SPDX-License-Identifier: Apache-2.0
"""What reads the encoders' maps, in floats; names of Hand4Whole (sheet, section 2.4)."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.bidrn.layout import (
    BODY_JOINTS, BODY_POSE, DEPTH, EXPRESSION, FARTHEST, HAND_JOINTS, HAND_POSE, KNUCKLES, Plan,
    SHAPE)


class BodyRotations(NamedTuple):
    """
    What the body's map says of the body.

    root, pose  (N, 6), (N, 21 * 6)  rotations, six numbers each
    shape       (N, 10)
    transl      (N, 3)  of the camera, metres
    """

    root: torch.Tensor
    pose: torch.Tensor
    shape: torch.Tensor
    transl: torch.Tensor


def soft_argmax(volumes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Expected places `(N, J, 3)` x, y, z in cells, and probabilities, of logits `(N, J, D, H, W)`.
    """
    likely = functional.softmax(volumes.flatten(2), 2).unflatten(2, volumes.shape[2:])
    places = []
    for axis in (4, 3, 2):
        others = [other for other in (2, 3, 4) if other != axis]
        cells = torch.arange(volumes.shape[axis], dtype=likely.dtype, device=likely.device)
        places.append((likely.sum(others) * cells).sum(-1))
    return torch.stack(places, -1), likely


def sampled(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Values `(N, J, C)` of maps `(N, C, H, W)` at `places` `(N, J, 2)`, x and y in cells."""
    size = places.new_tensor([maps.shape[3] - 1, maps.shape[2] - 1])
    grid = (2 * places / size - 1)[:, :, None]
    found = functional.grid_sample(maps, grid, align_corners=True)
    return found[..., 0].transpose(1, 2)


class PositionNet(nn.Module):
    """A map `(N, channels, H, W)` to joints and their probabilities, see `soft_argmax`."""

    def __init__(self, channels: int, joints: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(channels, joints * DEPTH, 1))

    def forward(self, feature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Read it."""
        return soft_argmax(self.conv(feature).unflatten(1, (-1, DEPTH)))


def _reduce(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 1), nn.BatchNorm2d(out), nn.ReLU())


def _linear(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, out))


def _described(maps: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:
    """What is found at joints `(N, J, 3)`, and where they are: `(N, J, C + 3)`."""
    # Where joints are is taught by their own loss alone.
    joints = joints.detach()
    return torch.cat([sampled(maps, joints[..., :2]), joints], -1)


class BodyRotationNet(nn.Module):
    """The body's map and those of both hands to BodyRotations."""

    def __init__(self, sizes: Plan) -> None:
        super().__init__()
        body, hand = sizes.body_net.channels, sizes.hand_net.channels
        self.body_conv = _reduce(body, sizes.reduced)
        self.lhand_conv, self.rhand_conv = (_reduce(hand, sizes.reduced) for _ in range(2))
        described = (len(BODY_JOINTS) + 2 * len(KNUCKLES)) * (sizes.reduced + 3)
        self.root_pose_out = _linear(described, 6)
        self.body_pose_out = _linear(described, 6 * BODY_POSE)
        self.shape_out, self.cam_out = _linear(body, SHAPE), _linear(body, 3)

    def forward(
            self, features: Sequence[torch.Tensor], joints: Sequence[torch.Tensor]
            ) -> BodyRotations:
        """
        Read maps of body, left and right hand, `(N, C, H, W)`, at joints `(N, 25 or 20, 3)`.

        Of the hands only the knuckles count.
        """
        body, left, right = (reduce(feature) for reduce, feature in zip(
            (self.body_conv, self.lhand_conv, self.rhand_conv), features))
        known = torch.cat([
            _described(body, joints[0]), _described(left, joints[1][:, KNUCKLES]),
            _described(right, joints[2][:, KNUCKLES])], 1).flatten(1)
        mean = features[0].mean((2, 3))
        return BodyRotations(self.root_pose_out(known), self.body_pose_out(known),
                             self.shape_out(mean), translation(self.cam_out(mean)))


def translation(raw: torch.Tensor) -> torch.Tensor:
    """Camera `(N, 3)` in metres from three numbers; depths lie between 0 and FARTHEST."""
    return torch.cat([raw[:, :2], FARTHEST * raw[:, 2:].sigmoid()], 1)


class HandRotationNet(nn.Module):
    """Hands' maps `(N, C, H, W)` to 15 rotations of six numbers `(N, 90)` at joints."""

    def __init__(self, sizes: Plan) -> None:
        super().__init__()
        self.hand_conv = _reduce(sizes.hand_net.channels, sizes.reduced)
        self.hand_pose_out = _linear(len(HAND_JOINTS) * (sizes.reduced + 3), 6 * HAND_POSE)

    def forward(self, feature: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:
        """Read them at joints `(N, 20, 3)`."""
        return self.hand_pose_out(_described(self.hand_conv(feature), joints).flatten(1))


class FaceRegressor(nn.Module):
    """Faces' maps `(N, channels, H, W)` to expression `(N, 10)` and the jaw's six numbers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expr_out, self.jaw_pose_out = _linear(channels, EXPRESSION), _linear(channels, 6)

    def forward(self, feature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Read them."""
        mean = feature.mean((2, 3))
        return self.expr_out(mean), self.jaw_pose_out(mean)
