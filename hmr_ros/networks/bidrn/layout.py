# SPDX-License-Identifier: Apache-2.0
"""Sizes and joint sets of the whole-body network (sheet, section 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
import math

from hmr_ros.networks.resnet import ResNetPlan, RESNET18, RESNET50

#: depth of the heat-maps in cells.
DEPTH = 8
BODY_JOINTS = (
    'pelvis', 'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
    'neck', 'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist',
    'right_wrist', 'left_big_toe', 'left_small_toe', 'left_heel', 'right_big_toe',
    'right_small_toe', 'right_heel', 'left_ear', 'right_ear', 'left_eye', 'right_eye', 'nose')
HAND_JOINTS = tuple(
    f'{finger}{number}' for finger in ('thumb', 'index', 'middle', 'ring', 'pinky')
    for number in range(1, 5))
#: rows of HAND_JOINTS where fingers begin, thumb left out.
KNUCKLES = (4, 8, 12, 16)
#: rotations that come out: 21 of the body behind its root, 15 of each hand.
BODY_POSE, HAND_POSE = 21, 15
SHAPE, EXPRESSION = 10, 10
#: height and width of the virtual picture that the camera is told for, whatever the crop's size.
VIRTUAL = (256, 192)
#: virtual focal length in its pixels, and side in metres of what it sees.
FOCAL, CAMERA_SIDE = 5000.0, 2.5
#: largest distance of the camera in metres.
FARTHEST = math.sqrt(FOCAL ** 2 * CAMERA_SIDE ** 2 / (VIRTUAL[0] * VIRTUAL[1]))
#: parts whose boxes are found, and how much larger than tight their crops are.
BOXES = {'lhand': 2.0, 'rhand': 2.0, 'face': 1.5}


@dataclass(frozen=True)
class Plan:
    """
    Sizes of a network.

    image      height and width of what it reads
    body       height and width of what its body encoder sees of it
    hand, face sides of the crops of hands and face
    body_net, hand_net, face_net  encoders
    reduced    channels that rotations are read from
    box_width  channels of the box network
    """

    image: tuple[int, int] = (512, 384)
    body: tuple[int, int] = (256, 192)
    hand: int = 256
    face: int = 192
    body_net: ResNetPlan = RESNET50
    hand_net: ResNetPlan = RESNET50
    face_net: ResNetPlan = RESNET18
    reduced: int = 512
    box_width: int = 256

    @property
    def body_cells(self) -> tuple[int, int, int]:
        """Depth, height and width of the body's heat-maps."""
        return _cells(self.body_net, *self.body)

    @property
    def hand_cells(self) -> tuple[int, int, int]:
        """Depth, height and width of a hand's heat-maps."""
        return _cells(self.hand_net, self.hand, self.hand)


def _cells(net: ResNetPlan, height: int, width: int) -> tuple[int, int, int]:
    return DEPTH, height // net.stride, width // net.stride


#: the trunk of the compact keypoint_guided, with maps of twice the size.
_SLIM = replace(RESNET18, widths=(48, 96, 192, 384), last=1)
#: published: of the paper. compact: a quarter of its pixels and a nineteenth of its operations.
PLANS: dict[str, Plan] = {
    'published': Plan(),
    'compact': Plan(
        image=(256, 192), body=(128, 96), hand=64, face=64, body_net=_SLIM, hand_net=_SLIM,
        face_net=_SLIM, reduced=128, box_width=64)}
