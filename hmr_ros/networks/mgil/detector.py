# SPDX-License-Identifier: Apache-2.0
"""A person detector in the manner of YOLOv5n (v6), written from the sheet, section 2."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import NamedTuple, Sequence

import torch
from torch import nn
from torch.nn import functional

from hmr_ros.networks.mgil.downsampling import Downsampling, replace_downsampling

STRIDES = (8, 16, 32)
#: width and height in pixels of the three anchors of each stride.
ANCHORS = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)),
           ((116, 90), (156, 198), (373, 326)))
#: box centre, box size and the score that there is anything.
BOX_NUMBERS = 5
#: widths of the stages of YOLOv5n, and what an untrained detector expects to see: objects in a
#: picture of so many pixels a side, and the share of a class among them.
STAGES = (16, 32, 64, 128, 256)
_EXPECTED, _EXPECTED_IN, _SURE = 8, 640, 0.99999


@dataclass(frozen=True)
class DetectorVariant:
    """
    Which detector.

    width         of its stages, as a multiple of YOLOv5n's; they must stay multiples of 4
    downsampling  how it halves its maps
    """

    width: float = 1.0
    downsampling: Downsampling = Downsampling()

    def __post_init__(self) -> None:
        if self.width <= 0 or self.width * STAGES[0] % 4:
            raise ValueError(f'width of the detector is {self.width!r}; expected a multiple of '
                             f'{4 / STAGES[0]}')

    @property
    def stages(self) -> tuple[int, ...]:
        """Channels of the five stages."""
        return tuple(round(self.width * channels) for channels in STAGES)


class Detections(NamedTuple):
    """
    What the detector sees, before non-maximum suppression.

    boxes   (N, M, 4)  x0, y0, x1, y1 in pixels of the picture
    scores  (N, M, C)  0 to 1, of each class
    """

    boxes: torch.Tensor
    scores: torch.Tensor


class Unit(nn.Module):
    """Convolution without bias, batch norm and SiLU."""

    def __init__(
            self, channels: int, out: int, kernel: int = 1, stride: int = 1,
            padding: int | None = None) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv: nn.Module = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3, momentum=0.03)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`."""
        return functional.silu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """1x1 and 3x3 unit around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.units = nn.Sequential(Unit(channels, channels), Unit(channels, channels, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to the same shape."""
        return x + self.units(x)


class Split(nn.Module):
    """C3: half of the channels through `inner`, half past it, then joined by a 1x1 unit."""

    def __init__(self, channels: int, out: int, inner: nn.Module) -> None:
        super().__init__()
        self.enter, self.past = Unit(channels, out // 2), Unit(channels, out // 2)
        self.inner = inner
        self.join = Unit(out, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to `(N, out, H, W)`."""
        return self.join(torch.cat([self.inner(self.enter(x)), self.past(x)], 1))


def trunk_split(width: int, depth: int) -> Split:
    """C3 of the trunk: `depth` residual pairs of units."""
    return Split(width, width, nn.Sequential(*(Residual(width // 2) for _ in range(depth))))


def head_split(channels: int, out: int) -> Split:
    """C3 of the head: one pair of units without a shortcut."""
    half = out // 2
    return Split(channels, out, nn.Sequential(Unit(half, half), Unit(half, half, 3)))


class PooledPyramid(nn.Module):
    """SPPF: three chained 5x5 max pools, all four stages joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = Unit(channels, channels // 2)
        self.join = Unit(2 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(N, channels, H, W)` to the same shape."""
        stages = [self.enter(x)]
        for _ in range(3):
            stages.append(functional.max_pool2d(stages[-1], 5, 1, 2))
        return self.join(torch.cat(stages, 1))


class Detector(nn.Module):
    """
    Picture `(N, 3, H, W)`, RGB 0 to 1 and sides multiples of 32, to three raw maps.

    Maps `(N, 3 (5 + C), H / s, W / s)` of strides s = 8, 16, 32: anchor by anchor, each x, y,
    width, height, objectness and classes. Layers are numbered as the sheet numbers them.

    width  of the stages, as a multiple of YOLOv5n's, see DetectorVariant
    """

    def __init__(
            self, classes: int = 1, downsampling: Downsampling = Downsampling(),
            width: float = 1.0) -> None:
        super().__init__()
        self.variant = DetectorVariant(width, downsampling)
        a, b, c, d, e = self.variant.stages
        layers: dict[int, nn.Module] = {
            0: Unit(3, a, 6, 2, 2), 1: Unit(a, b, 3, 2), 2: trunk_split(b, 1),
            3: Unit(b, c, 3, 2), 4: trunk_split(c, 2), 5: Unit(c, d, 3, 2),
            6: trunk_split(d, 3), 7: Unit(d, e, 3, 2), 8: trunk_split(e, 1),
            9: PooledPyramid(e), 10: Unit(e, d), 13: head_split(e, d),
            14: Unit(d, c), 17: head_split(d, c), 18: Unit(c, c, 3, 2),
            20: head_split(d, d), 21: Unit(d, d, 3, 2), 23: head_split(e, e)}
        self.layers = nn.ModuleDict({str(number): layer for number, layer in layers.items()})
        self.outputs = nn.ModuleList(
            nn.Conv2d(channels, len(ANCHORS[0]) * (BOX_NUMBERS + classes), 1)
            for channels in (c, d, e))
        self._expect_little()
        replace_downsampling(self, downsampling, nn.SiLU)

    def _expect_little(self) -> None:
        """Begin with the scores of pictures that are nearly empty, as most cells are."""
        for output, stride in zip(self.outputs, STRIDES):
            bias = output.bias.detach().reshape(len(ANCHORS[0]), -1)
            classes = bias.shape[1] - BOX_NUMBERS
            bias[:, 4] += math.log(_EXPECTED / (_EXPECTED_IN / stride) ** 2)
            bias[:, BOX_NUMBERS:] += math.log(0.6 / (classes - _SURE))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute the raw maps."""
        x = self._through(image, 0, 1, 2, 3, 4)
        middle = self._through(x, 5, 6)
        top = self._through(middle, 7, 8, 9, 10)
        rise = self._through(torch.cat([_twice(top), middle], 1), 13, 14)
        fine = self._through(torch.cat([_twice(rise), x], 1), 17)
        medium = self._through(torch.cat([self._through(fine, 18), rise], 1), 20)
        coarse = self._through(torch.cat([self._through(medium, 21), top], 1), 23)
        return tuple(read(x) for read, x in zip(self.outputs, (fine, medium, coarse)))

    def _through(self, x: torch.Tensor, *numbers: int) -> torch.Tensor:
        for number in numbers:
            x = self.layers[str(number)](x)
        return x


def build_detector(variant: DetectorVariant) -> Detector:
    """Build the person detector of a variant, with random weights."""
    return Detector(1, variant.downsampling, variant.width)


def _twice(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode='nearest')


def decode(maps: Sequence[torch.Tensor]) -> Detections:
    """
    Decode the raw maps of the detector; M runs over strides, anchors, rows and columns.

    A box may lie up to half a cell outside its own, and be up to four anchors wide.
    """
    parts = [_decode(*part) for part in zip(maps, STRIDES, ANCHORS)]
    return Detections(*(torch.cat(values, 1) for values in zip(*parts)))


def _decode(
        raw: torch.Tensor, stride: int, anchors: Sequence[tuple[int, int]]
        ) -> tuple[torch.Tensor, torch.Tensor]:
    # Plain numbers: an exporter then stores the grid, and computes no shapes.
    height, width = map(int, raw.shape[-2:])
    numbers = raw.shape[1] // len(anchors)
    x = raw.reshape(-1, len(anchors), numbers, height, width).permute(0, 1, 3, 4, 2).sigmoid()
    place, size, rest = x.split([2, 2, numbers - 4], -1)
    grid = raw.new_tensor([[(column, row) for column in range(width)] for row in range(height)])
    centre = (2 * place - 0.5 + grid) * stride
    half = 2 * size ** 2 * raw.new_tensor(anchors)[:, None, None]
    objectness, classes = rest.split([1, numbers - BOX_NUMBERS], -1)
    boxes = torch.cat([centre - half, centre + half], -1)
    return boxes.flatten(1, 3), (objectness * classes).flatten(1, 3)
