# SPDX-License-Identifier: Apache-2.0
"""Binary ResNets on packed bits; stem and shortcuts that change the shape stay floats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hmr_ros.runtime.packed_layers import Signal

#: maps a Signal to values `(N, H, W, C)` float32, not clipped.
Layer = Callable[[Signal], np.ndarray]


@dataclass(frozen=True)
class Projection:
    """1x1 convolution of floats and its norm; weight (C, O), bias (O,), float32."""

    weight: np.ndarray
    bias: np.ndarray
    stride: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map values `(N, H, W, C)` to `(N, H / stride, W / stride, O)`."""
        return _product(values[:, ::self.stride, ::self.stride], self.weight, self.bias)


@dataclass(frozen=True)
class PackedBlock:
    """Layers around a shortcut, which is the block's own input where there is no projection."""

    layers: tuple[Layer, ...]
    projection: Projection | None

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map values `(N, H, W, C)` to values, neither clipped."""
        first = signal = Signal.of(values)
        for layer in self.layers[:-1]:
            signal = Signal.of(layer(signal))
        found = self.layers[-1](signal)
        found += values if self.projection is None else self.projection(first.values)
        return found


@dataclass(frozen=True)
class Stem:
    """7x7 convolution of stride 2 and its norm, then a 3x3 max pool of stride 2."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Map `(N, 3, H, W)` float32 to values `(N, H / 4, W / 4, 64)`."""
        framed = np.pad(image, ((0, 0), (0, 0), (3, 3), (3, 3)))
        seen = np.lib.stride_tricks.sliding_window_view(framed, (7, 7), (2, 3))[:, :, ::2, ::2]
        seen = seen.transpose(0, 2, 3, 1, 4, 5)
        return _pooled(_product(seen.reshape(*seen.shape[:3], -1), self.weight, self.bias))


def _product(values: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Multiply the last axis by `weight` and add `bias`, all rows as one matrix."""
    found = np.ascontiguousarray(values).reshape(-1, len(weight)) @ weight
    found += bias
    return found.reshape(*values.shape[:-1], -1)


def _pooled(values: np.ndarray) -> np.ndarray:
    """Maxima of 3x3 pixels around every second one."""
    framed = np.pad(values, ((0, 0), (1, 0), (1, 0), (0, 0)), constant_values=-np.inf)
    rows = np.maximum(np.maximum(framed[:, :-2:2], framed[:, 1:-1:2]), framed[:, 2::2])
    return np.maximum(
        np.maximum(rows[:, :, :-2:2], rows[:, :, 1:-1:2]), rows[:, :, 2::2])


@dataclass(frozen=True)
class PackedEncoder:
    """A binary ResNet: pictures `(N, 3, H, W)` to its last map `(N, C, H / 32, W / 32)`."""

    stem: Stem
    blocks: tuple[PackedBlock, ...]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Compute it, float32; H and W are multiples of 32."""
        values = self.stem(image)
        for block in self.blocks:
            values = block(values)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
