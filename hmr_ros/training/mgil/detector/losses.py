# SPDX-License-Identifier: Apache-2.0
"""
The losses of the person detector: boxes by CIoU, objectness by cross-entropy.

As YOLOv5 (v6) is described in public: the objectness of a cell that is asked for a person should be
the overlap that its box reaches; the finer a map, the more its objectness weighs. There is one
class, so that the class says nothing beside the objectness and has no loss.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import torch
from torch.nn import functional

from hmr_ros.networks.mgil.detector import ANCHORS, BOX_NUMBERS, STRIDES
from hmr_ros.training.mgil.detector.targets import LevelTargets

#: weights of the objectness of the strides 8, 16 and 32, and of both terms, the objectness for
#: pictures of so many pixels a side. Windows have fewer cells, so that the mean over them weighs a
#: person more, and boxes would hardly be learnt beside it.
BALANCE = (4.0, 1.0, 0.4)
BOX_WEIGHT, OBJECTNESS_WEIGHT, OF_SIDE = 0.05, 1.0, 640


class DetectorLoss(NamedTuple):
    """The terms, weighted: `boxes` and `objectness`."""

    boxes: torch.Tensor
    objectness: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """Their sum."""
        return self.boxes + self.objectness


def detector_loss(
        maps: Sequence[torch.Tensor], targets: Sequence[LevelTargets]) -> DetectorLoss:
    """
    Loss of raw maps `(N, 3 (5 + C), H, W)` of the three strides, a mean over people and cells.

    Finite without anybody: the boxes then cost nothing.
    """
    box, objectness = maps[0].new_zeros((), dtype=torch.float32), 0.0
    for raw, level, stride, anchors, balance in zip(maps, targets, STRIDES, ANCHORS, BALANCE):
        # Half precision would lose what is small in sums over all cells.
        numbers = _by_anchor(raw.float(), len(anchors))
        wanted = torch.zeros_like(numbers[..., 0])
        if len(level.boxes):
            overlap = ciou(_boxes(numbers, level, stride, anchors), level.boxes)
            box = box + (1 - overlap).mean()
            wanted = _wanted(wanted, level, overlap.detach().clamp(min=0))
        cost = functional.binary_cross_entropy_with_logits(numbers[..., 4], wanted, level.weight)
        objectness = objectness + balance * cost
    share = STRIDES[0] ** 2 * maps[0].shape[2] * maps[0].shape[3] / OF_SIDE ** 2
    return DetectorLoss(BOX_WEIGHT * box, OBJECTNESS_WEIGHT * share * objectness)


def _by_anchor(raw: torch.Tensor, anchors: int) -> torch.Tensor:
    """Map `(N, A X, H, W)` to `(N, A, H, W, X)`."""
    count, channels, height, width = raw.shape
    return raw.reshape(count, anchors, channels // anchors, height, width).permute(0, 1, 3, 4, 2)


def _boxes(
        numbers: torch.Tensor, level: LevelTargets, stride: int,
        anchors: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Centre and size `(K, 4)` in pixels of the boxes where people are asked for."""
    found = numbers[level.places][:, :BOX_NUMBERS - 1].sigmoid()
    cell = torch.stack([level.column, level.row], 1)
    centre = (2 * found[:, :2] - 0.5 + cell) * stride
    size = (2 * found[:, 2:]) ** 2 * found.new_tensor(anchors)[level.anchor]
    return torch.cat([centre, size], 1)


def _wanted(
        wanted: torch.Tensor, level: LevelTargets, overlap: torch.Tensor) -> torch.Tensor:
    """Objectness `(N, A, H, W)`: the best overlap of all who are asked for there."""
    count, anchors, height, width = wanted.shape
    index = ((level.picture * anchors + level.anchor) * height + level.row) * width + level.column
    flat = wanted.reshape(-1).scatter_reduce(0, index, overlap, 'amax')
    return flat.reshape(count, anchors, height, width)


def ciou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """
    Complete intersection over union `(K,)`, -1.5 to 1, of boxes `(K, 4)`: centre x, y, size.

    IoU less the squared distance of centres over the diagonal of the common frame, less how much
    the aspects differ (Zheng et al., Distance-IoU loss, 2020).
    """
    low = [box[:, :2] - box[:, 2:] / 2 for box in (first, second)]
    high = [box[:, :2] + box[:, 2:] / 2 for box in (first, second)]
    common = (torch.minimum(*high) - torch.maximum(*low)).clamp(min=0).prod(1)
    union = first[:, 2:].prod(1) + second[:, 2:].prod(1) - common
    overlap = common / union.clamp(min=1e-7)
    frame = (torch.maximum(*high) - torch.minimum(*low)).square().sum(1).clamp(min=1e-7)
    apart = (first[:, :2] - second[:, :2]).square().sum(1)
    angles = [torch.atan(box[:, 2] / box[:, 3].clamp(min=1e-7)) for box in (first, second)]
    aspect = (angles[0] - angles[1]).square() * (4 / math.pi ** 2)
    with torch.no_grad():
        share = aspect / (1 - overlap + aspect).clamp(min=1e-7)
    return overlap - apart / frame - share * aspect
