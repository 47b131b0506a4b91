# SPDX-License-Identifier: Apache-2.0
"""What a batch says the network should find, in the units of its losses (sheet, sections 1, 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hmr_ros.networks.bidrn.boxes import PartBoxes
from hmr_ros.networks.bidrn.layout import Plan
from hmr_ros.training.bidrn.joints import BODY, MAPPED, relative

#: metres from front to back that heat-maps of the body, and of hands, cover.
_BODY_DEPTH, _HAND_DEPTH = 2.0, 0.3
#: shapes beyond it are mistakes of the fit they come from.
_LARGEST_BETA = 3.0
#: of what batches may leave out: everything is known, and in three dimensions.
_MASKS = {'pose_known': (53,), 'betas_known': (1,), 'expression_known': (1,),
          'joints_known': (137,), 'is_3d': (1,)}


@dataclass(frozen=True)
class Targets:
    """
    Of N people; masks are 1 where something is known, float32.

    pose, pose_known              (N, 53, 3) axis-angle, (N, 53)
    betas, expression             (N, 10), with betas_known, expression_known (N, 1)
    joints, joints_known          (N, 137, 3) metres, see `joints.relative`; (N, 137)
    fitted_joints                 (N, 137, 3)  of the parameters, where labels are other ones
    cells, inside                 (N, 137, 2)  in cells of the body's heat-maps; (N, 137)
    fitted_cells, fitted_inside   of the parameters
    boxes, box_known              centres and sizes (N, 3, 2) in these cells; (N, 3)
    is_3d                         (N, 1)
    """

    pose: torch.Tensor
    pose_known: torch.Tensor
    betas: torch.Tensor
    betas_known: torch.Tensor
    expression: torch.Tensor
    expression_known: torch.Tensor
    joints: torch.Tensor
    joints_known: torch.Tensor
    fitted_joints: torch.Tensor
    cells: torch.Tensor
    inside: torch.Tensor
    fitted_cells: torch.Tensor
    fitted_inside: torch.Tensor
    boxes: PartBoxes
    box_known: torch.Tensor
    is_3d: torch.Tensor

    @classmethod
    def of(cls, batch: dict[str, torch.Tensor], plan: Plan) -> Targets:
        """
        Read a batch of `WholeBodyCrops`.

        Batches of photographs may have masks of _MASKS, and joints of their labels beside those of
        the parameters: `fitted_joints3d`, `fitted_joints2d`, `fitted_inside`. Synthetic people need
        none: their labels are made of their parameters.
        """
        betas = batch['betas']
        sane = (betas.abs() <= _LARGEST_BETA).all(1, keepdim=True)
        masks = {name: batch[name] if name in batch else betas.new_ones(len(betas), *shape)
                 for name, shape in _MASKS.items()}
        cell = _cell(plan, betas)
        cells = batch['joints2d'] / cell
        joints = relative(batch['joints3d'])
        fitted = {
            'fitted_joints': relative(batch['fitted_joints3d']), 'fitted_inside':
            batch['fitted_inside'], 'fitted_cells': batch['fitted_joints2d'] / cell
            } if 'fitted_joints3d' in batch else {
            'fitted_joints': joints, 'fitted_inside': batch['inside'], 'fitted_cells': cells}
        return cls(
            pose=batch['pose'], betas=betas * sane, expression=batch['expression'],
            joints=joints, cells=cells, inside=batch['inside'],
            boxes=_part_boxes(batch['boxes'], cell), box_known=batch['box_known'],
            **masks, **fitted)


def _cell(plan: Plan, like: torch.Tensor) -> torch.Tensor:
    """Width and height of a cell of the body's heat-maps in pixels of the image."""
    _, rows, columns = plan.body_cells
    return like.new_tensor([plan.image[1] / columns, plan.image[0] / rows])


def _part_boxes(boxes: torch.Tensor, cell: torch.Tensor) -> PartBoxes:
    """Read corners `(N, 3, 4)` in pixels as centres and sizes in cells."""
    low, high = boxes[..., :2] / cell, boxes[..., 2:] / cell
    return PartBoxes((low + high) / 2, high - low)


def depth_cells(joints: torch.Tensor, depth: int) -> torch.Tensor:
    """Cells `(N, 65)` from front to back of joints `(N, 137, 3)` as `joints.relative` has them."""
    z = joints[:, MAPPED, 2]
    covered = z.new_full((z.shape[1],), _HAND_DEPTH)
    covered[BODY] = _BODY_DEPTH
    return (z / (covered / 2) + 1) / 2 * depth


class HandWindows:
    """
    Cells of hands' heat-maps: where the boxes that the network found show the body's cells.

    boxes  `(N, 3, 4)` x0, y0, x1, y1 in pixels of the image, as the network cuts crops; detached
    """

    def __init__(self, boxes: torch.Tensor, plan: Plan) -> None:
        boxes, cell = boxes[:, :2].detach(), _cell(plan, boxes)
        self._low = (boxes[..., :2] / cell)[:, :, None]
        # As RoIAlign does: a pixel at least.
        side = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1) / cell
        self._size = boxes.new_tensor([plan.hand_cells[2], plan.hand_cells[1]])
        self._scale = (self._size / side)[:, :, None]

    def __call__(self, hands: torch.Tensor) -> torch.Tensor:
        """Map hands `(N, 40, 2)`, left first, in cells of the body's maps to those of their own."""
        return ((hands.unflatten(1, (2, -1)) - self._low) * self._scale).flatten(1, 2)

    def contain(self, hands: torch.Tensor) -> torch.Tensor:
        """Which joints `(N, 40)` of what was mapped lie inside."""
        return ((hands >= 0) & (hands < self._size)).all(-1)
