# SPDX-License-Identifier: Apache-2.0
"""Binary ResNets on packed bits; stem and shortcuts that change the shape stay floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hmr_ros.runtime.packed_kernels import clipped_rows, pool_line, seen_by_stem
from hmr_ros.runtime.packed_layers import Signal, Workplace

#: lines of the stem that are computed at once: what they see stays in the processor's cache.
_LINES = 4
#: values of the largest map that go through at once, as many pictures as have them: more of them
#: would leave the cache from layer to layer.
_FITTING = 1 << 20


@dataclass(frozen=True)
class Projection:
    """1x1 convolution of floats; weight (C, O) float32. Its norm's offset is in the last layer."""

    weight: np.ndarray
    stride: int

    def __call__(self, place: Workplace, values: np.ndarray) -> np.ndarray:
        """Map values `(N, H, W, C)`, which it clips, to `(N, H / stride, W / stride, O)`."""
        count, height, width, channels = values.shape
        size = count, height // self.stride, width // self.stride
        pixels = size[0] * size[1] * size[2]
        rows, out = place.empty((pixels, channels)), place.empty((pixels, self.weight.shape[1]))

        def work(first: int, last: int) -> None:
            clipped_rows(first, last, values, self.stride, rows)
            np.dot(rows[first:last], self.weight, out=out[first:last])
        place.share(pixels, work)
        return out.reshape(*size, -1)


@dataclass(frozen=True)
class PackedBlock:
    """
    Layers around a shortcut, which is the block's own input where there is no projection.

    All of them are of the processor, or all CudaLayers with a CudaProjection.
    """

    layers: tuple[Any, ...]
    projection: Any | None

    def __call__(self, place: Any, signal: Any) -> Any:
        """Map a Signal in a Workplace, or a CudaSignal in a CudaPlace."""
        around = signal.values
        found = signal
        for layer in self.layers[:-1]:
            found = layer(place, found)
        if self.projection is not None:
            around = self.projection(place, signal.values)
        return self.layers[-1](place, found, around)


@dataclass(frozen=True)
class Stem:
    """
    7x7 convolution of stride 2, then a 3x3 max pool of stride 2.

    weight (7 * 7 * 3, O): rows, columns, colours; bias (O,); float32, the norm folded in.
    """

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, place: Workplace, image: np.ndarray) -> Signal:
        """Map `(N, 3, H, W)` float32 to a Signal of H / 4 x W / 4."""
        count, _, height, width = image.shape
        values = place.empty((count, height // 4, width // 4, len(self.bias)))
        lines = place.empty((count, height // 2, width // 2, len(self.bias)))
        for picture, found, pooled in zip(image, lines, values):
            framed = np.pad(picture.transpose(1, 2, 0), ((3, 3), (3, 3), (0, 0)))
            self._convolve(place, framed.reshape(len(framed), -1), found)
            _pool(place, found, pooled)
        values += self.bias
        return Signal.of(values)

    def _convolve(self, place: Workplace, framed: np.ndarray, out: np.ndarray) -> None:
        def work(first: int, last: int) -> None:
            seen = np.empty((_LINES, out.shape[1], 7, 21), np.float32)
            for line in range(first, last, _LINES):
                stop = min(line + _LINES, last)
                seen_by_stem(line, stop, framed, seen)
                rows = seen[:stop - line].reshape(-1, 147)
                np.dot(rows, self.weight, out=out[line:stop].reshape(len(rows), -1))
        place.share(len(out), work)


def _pool(place: Workplace, lines: np.ndarray, out: np.ndarray) -> None:
    def work(first: int, last: int) -> None:
        for y in range(first, last):
            pool_line(lines[max(0, 2 * y - 1)], lines[2 * y], lines[2 * y + 1], out[y])
    place.share(len(out), work)


@dataclass(frozen=True)
class PackedEncoder:
    """A binary ResNet: pictures `(N, 3, H, W)` to the values of its last map `(N, h, w, C)`."""

    stem: Stem
    blocks: tuple[PackedBlock, ...]

    def __call__(self, place: Workplace, image: np.ndarray) -> np.ndarray:
        """Compute it, float32; H and W are multiples of what the encoder divides them by."""
        channels = self.blocks[0].layers[-1].kernel.outputs
        step = max(1, _FITTING // (image.shape[2] * image.shape[3] // 16 * channels))
        return np.concatenate([
            self._encode(place, image[first:first + step])
            for first in range(0, len(image), step)])

    def _encode(self, place: Workplace, image: np.ndarray) -> np.ndarray:
        signal = self.stem(place, image)
        for block in self.blocks:
            signal = block(place, signal)
        return signal.values.copy()
