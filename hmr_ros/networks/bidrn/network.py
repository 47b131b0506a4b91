# SPDX-License-Identifier: Apache-2.0
"""The whole-body network, binary or in floats; names of Hand4Whole (sheet, sections 2 and 5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from hmr_ros.networks.bidrn.boxes import BoxNet
from hmr_ros.networks.bidrn.crops import decode_boxes, roi_align
from hmr_ros.networks.bidrn.decoders import (
    BodyRotationNet, FaceRegressor, HandRotationNet, PositionNet)
from hmr_ros.networks.bidrn.encoders import BinaryResNet
from hmr_ros.networks.bidrn.layout import BODY_JOINTS, HAND_JOINTS, Plan
from hmr_ros.networks.bidrn.variants import PARTS, Variant
from hmr_ros.networks.resnet import ResNet, ResNetPlan


class WholePerson(NamedTuple):
    """
    What the network says of N people; rotations are six numbers each.

    root (N, 6), body_pose (N, 126), left_hand, right_hand (N, 90), jaw (N, 6)
    shape, expression  (N, 10)
    transl             (N, 3)  of the camera, metres
    body_joints        (N, 25, 3)  x, y, z in cells of the body's heat-maps
    hand_joints        (N, 2, 20, 3)  left and right, in cells of their own heat-maps
    centres, sizes     (N, 3, 2)  boxes of left hand, right hand, face in cells of the body's
    boxes              (N, 3, 4)  x0, y0, x1, y1 of their crops in pixels of the image
    """

    root: torch.Tensor
    body_pose: torch.Tensor
    left_hand: torch.Tensor
    right_hand: torch.Tensor
    jaw: torch.Tensor
    shape: torch.Tensor
    expression: torch.Tensor
    transl: torch.Tensor
    body_joints: torch.Tensor
    hand_joints: torch.Tensor
    centres: torch.Tensor
    sizes: torch.Tensor
    boxes: torch.Tensor


class Encoder(nn.Module):
    """An encoder under the name that checkpoints have for it."""

    def __init__(self, plan: ResNetPlan, binary: bool, variant: Variant) -> None:
        super().__init__()
        self.backbone = _backbone(plan, binary, variant)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map pictures to the last map."""
        return self.backbone.last_map(image)


def _backbone(plan: ResNetPlan, binary: bool, variant: Variant) -> nn.Module:
    return BinaryResNet(plan, variant) if binary else ResNet(plan)


class WholeBody(nn.Module):
    """Image crop `(N, 3, H, W)` of the plan's size, RGB 0 to 1, to WholePerson."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant, sizes = variant, variant.sizes
        body, hand, face = (part in variant.binary for part in PARTS)
        self.backbone = _backbone(sizes.body_net, body, variant)
        self.body_position_net = PositionNet(sizes.body_net.channels, len(BODY_JOINTS))
        self.body_rotation_net = BodyRotationNet(sizes)
        self.box_net = BoxNet(variant)
        self.hand_roi_net = Encoder(sizes.hand_net, hand, variant)
        self.hand_position_net = PositionNet(sizes.hand_net.channels, len(HAND_JOINTS))
        self.hand_rotation_net = HandRotationNet(sizes)
        self.face_roi_net = Encoder(sizes.face_net, face, variant)
        self.face_regressor = FaceRegressor(sizes.face_net.channels)

    def forward(self, image: torch.Tensor) -> WholePerson:
        """See WholeBody."""
        sizes = self.variant.sizes
        feature = self.backbone.last_map(every_second(image, sizes))
        joints, likely = self.body_position_net(feature)
        found = self.box_net(feature, likely)
        # Crops teach the boxes nothing: where they lie has a loss of its own.
        boxes = decode_boxes(found, sizes).detach()
        left, right = (roi_align(image, boxes[:, row], sizes.hand) for row in (0, 1))
        hands = self.hand_roi_net(torch.cat([left.flip(3), right]))
        hand_joints, _ = self.hand_position_net(hands)
        hand_pose = self.hand_rotation_net(hands, hand_joints)
        hand_joints, hand_pose = restored(hand_joints, hand_pose, sizes.hand_cells[2])
        left_map, right_map = hands.chunk(2)
        body = self.body_rotation_net(
            (feature, left_map.flip(3), right_map), (joints, *hand_joints.unbind(1)))
        expression, jaw = self.face_regressor(
            self.face_roi_net(roi_align(image, boxes[:, 2], sizes.face)))
        return WholePerson(
            body.root, body.pose, *hand_pose.unbind(1), jaw, body.shape, expression, body.transl,
            joints, hand_joints, *found, boxes)


def every_second(image: torch.Tensor, sizes: Plan) -> torch.Tensor:
    """Pixels `(N, 3, *body)` of the image that the body encoder sees: as nearest neighbours."""
    return image[:, :, ::sizes.image[0] // sizes.body[0], ::sizes.image[1] // sizes.body[1]]


#: of the six numbers of a rotation, rows of two: mirroring in x turns about x alone stay.
_MIRRORED = (1, -1, -1, 1, -1, 1)


def restored(
        joints: torch.Tensor, pose: torch.Tensor, width: int
        ) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Turn left hands back, which went through the network mirrored.

    joints (2N, 20, 3) and six numbers per rotation (2N, 90), the left half first; width in cells
    of the heat-maps. Returns (N, 2, 20, 3) and (N, 2, 90).
    """
    left, right = joints.chunk(2)
    # A fraction of a cell off, as all published weights have learned it.
    left = torch.cat([width - 1 - left[..., :1], left[..., 1:]], -1)
    left_pose, right_pose = pose.chunk(2)
    signs = pose.new_tensor(_MIRRORED).repeat(pose.shape[1] // 6)
    return torch.stack([left, right], 1), torch.stack([left_pose * signs, right_pose], 1)


def build_network(variant: Variant = Variant()) -> WholeBody:
    """Build a variant with Hand4Whole's random start (sheet, section 3)."""
    network = WholeBody(variant)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, std=0.001)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return network
