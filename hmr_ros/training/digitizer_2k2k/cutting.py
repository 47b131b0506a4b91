# SPDX-License-Identifier: Apache-2.0
"""Patches of many images in torch, as `perception.digitizer.patches` cuts those of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from hmr_ros.perception.digitizer.alignment import Alignment, PlacedPart
from hmr_ros.perception.digitizer.frame import LOW


def enlarged(maps: torch.Tensor) -> torch.Tensor:
    """Maps `(N, C, s, s)` eight times the size, bilinear."""
    return functional.interpolate(maps, scale_factor=LOW, mode='bilinear')


def cut(maps: torch.Tensor, alignments: Sequence[Alignment]) -> dict[str, torch.Tensor]:
    """
    Cut `(B, C, h, w)` out of maps `(N, C, S, S)`, by the names of PATCHES.

    alignments  of the N images; B is how many of their parts that share a network were placed,
                image by image, and names of which none was are left out
    """
    rows: dict[str, list[torch.Tensor]] = {}
    for planes, alignment in zip(maps, alignments):
        for placed in alignment.placed:
            rows.setdefault(placed.part.patch, []).append(_sample(planes, placed))
    return {name: torch.stack(patches) for name, patches in rows.items()}


def _sample(planes: torch.Tensor, placed: PlacedPart) -> torch.Tensor:
    """Take `(C, h, w)` from planes `(C, S, S)`, bilinear, 0 outside."""
    height, width = placed.size
    matrix = torch.as_tensor(placed.to_image, dtype=torch.float32, device=planes.device)
    columns = torch.arange(width, device=planes.device)
    rows = torch.arange(height, device=planes.device)[:, None]
    pixels = torch.stack([x * columns + y * rows + start for x, y, start in matrix], -1)
    places = (2 * pixels + 1) / planes.shape[-1] - 1
    return functional.grid_sample(planes[None], places[None], align_corners=False)[0]
