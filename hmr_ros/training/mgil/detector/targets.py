# SPDX-License-Identifier: Apache-2.0
"""Which cells and anchors of the detector's maps a person is to be read from."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hmr_ros.networks.mgil.detector import ANCHORS, STRIDES

#: a box may be so many times as wide or tall as its anchor, or the other way round.
MOST_RATIO = 4.0


@dataclass(frozen=True)
class LevelTargets:
    """
    What one raw map `(N, 3 (5 + C), H, W)` should say.

    picture, anchor, row, column (K,) int64: where a person is to be read
    boxes  (K, 4)        centre x, y, width, height in pixels of that person
    weight (N, 3, H, W)  0 where nothing is asked of the objectness: in the middle of people who
                         are ignored; else 1
    """

    picture: torch.Tensor
    anchor: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    boxes: torch.Tensor
    weight: torch.Tensor

    @property
    def places(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Index of the entries in a map `(N, 3, H, W, ...)`."""
        return self.picture, self.anchor, self.row, self.column


def detector_targets(
        boxes: torch.Tensor, ignored: torch.Tensor, rows: torch.Tensor,
        shape: tuple[int, int, int]) -> tuple[LevelTargets, LevelTargets, LevelTargets]:
    """
    Find the targets of a batch for the strides 8, 16 and 32.

    boxes (B, 4) x0, y0, x1, y1 pixels, ignored (B,) bool, rows (B,) int64, the picture of each;
    shape: number, height and width of the pictures, multiples of 32.

    A box belongs to every anchor that it is less than MOST_RATIO times as large or small as, in the
    cell of its centre and in the nearest cell beside and the nearest above or below it.
    """
    middle = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    return tuple(
        _level(middle, ignored, rows, shape, stride, boxes.new_tensor(anchors))
        for stride, anchors in zip(STRIDES, ANCHORS))


def _level(
        middle: torch.Tensor, ignored: torch.Tensor, rows: torch.Tensor,
        shape: tuple[int, int, int], stride: int, anchors: torch.Tensor) -> LevelTargets:
    count, height, width = shape[0], shape[1] // stride, shape[2] // stride
    ratio = middle[:, None, 2:] / anchors
    fits = torch.maximum(ratio, 1 / ratio.clamp(min=1e-6)).amax(2) < MOST_RATIO
    person, anchor = torch.nonzero(fits & ~ignored[:, None], as_tuple=True)
    column, row, twin = cells(middle[person, :2] / stride, height, width)
    person, anchor = person[twin], anchor[twin]
    weight = _weight(middle[ignored], rows[ignored], (count, height, width), stride)
    weight = weight[:, None].repeat(1, len(anchors), 1, 1)
    picture = rows[person]
    # Whoever is asked for is asked for, whoever else is ignored there.
    weight[picture, anchor, row, column] = 1
    return LevelTargets(picture, anchor, row, column, middle[person], weight)


def cells(
        places: torch.Tensor, height: int, width: int
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Columns and rows (K,) of the cells that answer for `places` (M, 2) in cells, and whose they are.

    Each place has its own cell and up to two neighbours, towards the sides that are nearer than
    half a cell, inside the map. A neighbour of a place just between could not reach it.
    """
    limits = places.new_tensor([width, height])
    own = torch.minimum(places.floor(), limits - 1).clamp(min=0)
    nearer = (places - own - 0.5).sign()
    beside = own + nearer * nearer.new_tensor([1.0, 0.0])
    above = own + nearer * nearer.new_tensor([0.0, 1.0])
    found = torch.cat([own, beside, above])
    apart = torch.cat([torch.ones_like(nearer[:, 0]), *nearer.unbind(1)]) != 0
    inside = apart & ((found >= 0) & (found < limits)).all(1)
    index = torch.arange(len(places), device=places.device).repeat(3)[inside]
    column, row = found[inside].long().unbind(1)
    return column, row, index


def _weight(
        middle: torch.Tensor, rows: torch.Tensor, shape: tuple[int, int, int],
        stride: int) -> torch.Tensor:
    """Return 0 for cells `(N, H, W)` whose middle lies in the box of someone ignored, else 1."""
    weight = middle.new_ones(shape)
    y, x = ((torch.arange(size, device=middle.device) + 0.5) * stride for size in shape[1:])
    for (centre_x, centre_y, wide, tall), row in zip(middle.tolist(), rows.tolist()):
        inside = (((y - centre_y).abs() <= max(tall, stride) / 2)[:, None]
                  & ((x - centre_x).abs() <= max(wide, stride) / 2))
        weight[row][inside] = 0
    return weight
