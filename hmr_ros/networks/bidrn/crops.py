# SPDX-License-Identifier: Apache-2.0
"""Boxes of hands and face in pixels, and the crops of them (sheet, section 1)."""

from __future__ import annotations

from typing import Any

import torch

from hmr_ros.networks.bidrn.boxes import PartBoxes
from hmr_ros.networks.bidrn.layout import BOXES, Plan
from hmr_ros.runtime import torch_crops


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

    image (N, C, H, W), one box each. See `torch_crops.roi_align`.
    """
    if torch.onnx.is_in_onnx_export():
        return _RoiAlign.apply(image, boxes, size)
    return torch_crops.roi_align(image, boxes, size, size)


class _RoiAlign(torch.autograd.Function):
    """Stands for the operator of ONNX while a network is exported."""

    @staticmethod
    def forward(ctx: Any, image: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
        return image.new_zeros(len(boxes), image.shape[1], size, size)

    @staticmethod
    def symbolic(graph: Any, image: Any, boxes: Any, size: int) -> Any:
        count = graph.op('Gather', graph.op('Shape', boxes), _integer(graph, 0), axis_i=0)
        rows = graph.op('Range', _integer(graph, 0), count, _integer(graph, 1))
        return graph.op(
            'RoiAlign', image, boxes, rows, mode_s='avg', output_height_i=size,
            output_width_i=size, sampling_ratio_i=0, spatial_scale_f=1.0,
            coordinate_transformation_mode_s='output_half_pixel')


def _integer(graph: Any, value: int) -> Any:
    return graph.op('Constant', value_t=torch.tensor(value))
