# SPDX-License-Identifier: Apache-2.0
"""Boxes of hands and face in pixels, and the crops of them (sheet, section 1)."""

from __future__ import annotations

import torch
from torch.nn import functional

from hmr_ros.networks.bidrn.boxes import PartBoxes
from hmr_ros.networks.bidrn.layout import BOXES, Plan


def decode_boxes(found: PartBoxes, sizes: Plan) -> torch.Tensor:
    """
    Squares `(N, 3, 4)` x0, y0, x1, y1 of left hand, right hand and face in pixels of the image.

    The shorter side grows to the longer one, then all by what BOXES says.
    """
    height, width = sizes.image
    _, rows, columns = sizes.body_cells
    cell = found.centres.new_tensor([width / columns, height / rows])
    growth = found.centres.new_tensor(list(BOXES.values()))[:, None]
    centres = found.centres * cell
    half = 0.5 * growth * (found.sizes * cell).amax(-1, keepdim=True)
    return torch.cat([centres - half, centres + half], -1)


def roi_align(image: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """
    Crops `(N, C, size, size)` of `boxes` `(N, 4)`, x0, y0, x1, y1 in pixels of `image`.

    image (N, C, H, W), one box each. As RoIAlign with `aligned` false and as many samples a bin
    as it has pixels, rounded up; boxes are at least a pixel wide.
    """
    crops = []
    for row, box in zip(image, boxes):
        side = (box[2:] - box[:2]).clamp(min=1)
        counts = [max(1, int(torch.ceil(length / size))) for length in side.detach()]
        x, y = (_samples(box[axis], side[axis], size, counts[axis]) for axis in (0, 1))
        fine = _bilinear(row, x, y)
        crops.append(functional.avg_pool2d(fine[None], (counts[1], counts[0]))[0])
    return torch.stack(crops)


def _samples(start: torch.Tensor, length: torch.Tensor, size: int, count: int) -> torch.Tensor:
    """Places `(size count,)` of the samples along one axis, pixels."""
    steps = torch.arange(size * count, dtype=start.dtype, device=start.device)
    return start + (steps + 0.5) * length / (size * count)


def _bilinear(image: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Values `(C, Y, X)` of `image` `(C, H, W)`; up to a pixel outside is its border, then 0."""
    height, width = image.shape[-2:]
    known = (((y >= -1) & (y <= height))[:, None] & ((x >= -1) & (x <= width))).to(image.dtype)
    grid = torch.stack(torch.meshgrid(
        2 * x.clamp(0, width - 1) / (width - 1) - 1,
        2 * y.clamp(0, height - 1) / (height - 1) - 1, indexing='xy'), -1)
    return functional.grid_sample(image[None], grid[None], align_corners=True)[0] * known
