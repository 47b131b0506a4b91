# SPDX-License-Identifier: Apache-2.0
"""RoiAlign by torch, as two products of matrices: its samples are the same in every row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: boxes of more than this many pictures' sides are sampled more thinly.
_LARGEST = 8


def roi_align(image: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """
    Crops `(N, C, height, width)` of `boxes` `(N, 4)`, x0, y0, x1, y1 in pixels of `image`.

    image (N, C, H, W), one box each. As RoIAlign with `aligned` false and as many samples a bin
    as it has pixels, rounded up; boxes are at least a pixel wide. Nothing is read back
    from a GPU.
    """
    rows = axis_weights(boxes[:, 1], boxes[:, 3], height, image.shape[2])
    columns = axis_weights(boxes[:, 0], boxes[:, 2], width, image.shape[3])
    return rows[:, None] @ (image @ columns.transpose(1, 2)[:, None])


def axis_weights(start: Tensor, end: Tensor, size: int, pixels: int) -> Tensor:
    """
    What each of `pixels` gives to each of `size` bins between `start` and `end`, along one axis.

    Returns `(N, size, pixels)`. A sample up to a pixel outside the picture is its border, then 0.
    """
    most = max(1, math.ceil(_LARGEST * pixels / size))
    length = (end - start).clamp(min=1)[:, None, None]
    count = torch.ceil(length / size).clamp(max=most)
    if count.device.type == 'cpu':
        most = int(count.amax())
    bins = torch.arange(size, dtype=start.dtype, device=start.device)[:, None]
    samples = torch.arange(most, dtype=start.dtype, device=start.device)
    places = start[:, None, None] + (bins + (samples + 0.5) / count) * (length / size)
    known = (places >= -1) & (places <= pixels) & (samples < count)
    near = places.clamp(0, pixels - 1)[..., None] - torch.arange(
        pixels, dtype=start.dtype, device=start.device)
    return ((1 - near.abs()).clamp(min=0) * known[..., None]).sum(2) / count
