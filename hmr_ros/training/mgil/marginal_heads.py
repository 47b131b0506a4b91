# SPDX-License-Identifier: Apache-2.0
"""A start for the heads of pose networks that knows where the cells of a map lie."""

from __future__ import annotations

import torch

from hmr_ros.networks.mgil import PoseNetwork
from hmr_ros.training.errors import TrainingError

#: how far a cell reaches, as a part of its size: neighbours overlap where they are half as strong.
_REACH = 0.5


def read_marginals(network: PoseNetwork) -> None:
    """
    Make the heads read a keypoint's map as scores of its columns and rows, in place.

    A bin's logit starts as the sum over the cells of the map whose columns, or rows, lie there, so
    the map learns as heat-maps do. With random weights the heads must first find out what every
    cell means. Raises TrainingError for networks that read several maps of a keypoint.
    """
    variant, cells = network.variant, network.mlp_head_x.in_features
    stride = round((variant.height * variant.width / cells) ** 0.5)
    rows, columns = variant.height // stride, variant.width // stride
    if rows * columns != cells or network.final_layer.out_channels != variant.keypoints:
        raise TrainingError(
            f'backbone {variant.backbone} reads several maps of a keypoint, which have no '
            'marginals; choose head: random')
    x, y = (_kernel(bins, count, variant.split_ratio, stride)
            for bins, count in zip(variant.bins, (columns, rows)))
    with torch.no_grad():
        network.mlp_head_x.weight.copy_(x.repeat(1, rows))
        network.mlp_head_y.weight.copy_(y.repeat_interleave(columns, 1))
        for head in (network.mlp_head_x, network.mlp_head_y):
            head.bias.zero_()


def _kernel(bins: int, cells: int, split_ratio: float, stride: int) -> torch.Tensor:
    """Weights `(bins, cells)` by how near a bin lies to a cell's middle; each row's sum is 1."""
    # Bins lie on their edges: bin b is where pixel b / split_ratio has its middle.
    middle = (torch.arange(cells) + 0.5) * stride - 0.5
    density = torch.distributions.Normal(middle, _REACH * stride)
    near = density.log_prob(torch.arange(bins)[:, None] / split_ratio).exp()
    return near / near.sum(1, keepdim=True)
