# SPDX-License-Identifier: Apache-2.0
"""
Whole binary encoders on a GPU, as packed_encoder.py has them on the processor (bidrn sheet, 2.3).

Floats of stems and projections are added up in another order than there, and round otherwise. A
value that is nearly 0 may get the other sign by that, which layers after it see.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hmr_ros.runtime.packed_bits import words_of
from hmr_ros.runtime.packed_cuda import CudaLayer, CudaPlace, CudaSignal, DeviceArray, OUTPUTS, TILE
from hmr_ros.runtime.packed_encoder import PackedBlock, PackedEncoder, Projection, Stem

#: pixels and outputs of a block of the kernel `project`.
_ROWS, _COLUMNS = 64, 128


@dataclass(frozen=True)
class CudaStem:
    """A Stem on the GPU; weight (7 * 7 * 3, O), bias (O,)."""

    weight: DeviceArray
    bias: DeviceArray

    @classmethod
    def of(cls, place: CudaPlace, stem: Stem) -> CudaStem:
        """Copy one."""
        return cls(place.copy_of(stem.weight), place.copy_of(stem.bias))

    def __call__(self, place: CudaPlace, image: DeviceArray) -> CudaSignal:
        """Map `(N, 3, H, W)` float32 to a signal of H / 4 x W / 4."""
        count, _, height, width = image.shape
        outputs, = self.bias.shape
        lines = place.empty((count, height // 2, width // 2, outputs))
        out = place.signal(count, height // 4, width // 4, outputs)
        tiles = -(-height // (2 * TILE)) * -(-width // (2 * TILE))
        place.launch('stem_lines', (tiles, -(-outputs // OUTPUTS), count),
                     (image, self.weight, lines), (height, width, outputs))
        pixels = -(-(height // 4) * (width // 4) // TILE)
        place.launch('stem_pool', (pixels, 2 * words_of(outputs), count),
                     (lines, self.bias, out.values, out.bits), (height // 4, width // 4, outputs))
        return out


@dataclass(frozen=True)
class CudaProjection:
    """A Projection on the GPU; weight (C, O)."""

    weight: DeviceArray
    stride: int

    @classmethod
    def of(cls, place: CudaPlace, projection: Projection) -> CudaProjection:
        """Copy one."""
        return cls(place.copy_of(projection.weight), projection.stride)

    def __call__(self, place: CudaPlace, values: DeviceArray) -> DeviceArray:
        """Map values `(N, H, W, C)`, which it clips, to `(N, H / stride, W / stride, O)`."""
        count, height, width, channels = values.shape
        outputs = self.weight.shape[1]
        out = place.empty((count, height // self.stride, width // self.stride, outputs))
        pixels = out.shape[0] * out.shape[1] * out.shape[2]
        place.launch('project', (-(-pixels // _ROWS), -(-outputs // _COLUMNS), 1),
                     (values, self.weight, out),
                     (pixels, height, width, channels, self.stride, outputs))
        return out


@dataclass(frozen=True)
class CudaEncoder:
    """A PackedEncoder on the GPU: all of it, stem and projections included."""

    stem: CudaStem
    blocks: tuple[PackedBlock, ...]

    @classmethod
    def of(cls, place: CudaPlace, encoder: PackedEncoder) -> CudaEncoder:
        """Copy one; EngineError when a layer is one that the kernel does not have."""
        return cls(CudaStem.of(place, encoder.stem), tuple(
            PackedBlock(
                tuple(CudaLayer.of(place, layer) for layer in block.layers),
                CudaProjection.of(place, block.projection) if block.projection else None)
            for block in encoder.blocks))

    def __call__(self, place: CudaPlace, image: np.ndarray) -> np.ndarray:
        """Map pictures `(N, 3, H, W)` float32 to the values of the last map `(N, h, w, C)`."""
        signal = self.stem(place, place.write(place.empty(image.shape), image))
        for block in self.blocks:
            signal = block(place, signal)
        return place.read(signal.values)
