# SPDX-License-Identifier: Apache-2.0
"""The binary box network on packed bits (bidrn sheet, section 2.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hmr_ros.runtime.packed_heads import Line, sampled, soft_argmax
from hmr_ros.runtime.packed_layers import PackedDeconvolution, PackedLayer, Signal, Workplace


@dataclass(frozen=True)
class ReadMaps:
    """What is read of the last binary deconvolution where no other follows."""

    centre: Line

    def centres(self, values: np.ndarray) -> np.ndarray:
        """Logits `(N, H, W, P)` of the places of parts, from values `(N, H, W, C)`."""
        return self.centre(values)

    def at(self, values: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Values `(N, P, C)` at `places` `(N, P, 2)`, x and y in cells."""
        return sampled(values, places)


class RaisedMaps:
    """
    What is read of a third deconvolution, of floats, without computing its map.

    All that is done with that map is linear: so is a convolution of it, which makes one
    deconvolution to three channels of both; and only three of its places are read, each of which
    every tap reaches once.
    """

    def __init__(self, taps: np.ndarray, scale: np.ndarray, offset: np.ndarray,
                 centre: Line) -> None:
        """
        Join the deconvolution's weights `(4, 4, C, O)`, its norm's line `(O,)` and `centre`.
        """
        self._taps = np.ascontiguousarray(taps * scale).reshape(-1, len(scale))
        self._offset, channels = offset, taps.shape[2]
        joined = (self._taps @ centre.weight).reshape(16, channels, -1).transpose(1, 0, 2)
        self._joined = np.ascontiguousarray(joined).reshape(channels, -1)
        self._bias = offset @ centre.weight + centre.bias

    def centres(self, values: np.ndarray) -> np.ndarray:
        """Logits `(N, 2 H, 2 W, P)` of the places of parts, from values `(N, H, W, C)`."""
        count, height, width, channels = values.shape
        values = np.maximum(values, 0)
        spread = (values.reshape(-1, channels) @ self._joined).reshape(
            count, height, width, 4, 4, -1)
        framed = np.zeros((count, 2 * height + 2, 2 * width + 2, spread.shape[-1]), np.float32)
        for row in range(4):
            for column in range(4):
                framed[:, row:row + 2 * height:2, column:column + 2 * width:2] += (
                    spread[:, :, :, row, column])
        return framed[:, 1:-1, 1:-1] + self._bias

    def at(self, values: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Values `(N, P, O)` of the raised map at `places` `(N, P, 2)`, x and y in its cells."""
        count, height, width, _ = values.shape
        x, share_x, inside_x = _reached(places[..., 0], width)
        y, share_y, inside_y = _reached(places[..., 1], height)
        images = np.arange(count)[:, None, None, None]
        seen = np.maximum(values[images, y[..., :, None], x[..., None, :]], 0)
        seen *= (share_y[..., :, None] * share_x[..., None, :])[..., None]
        found = seen.reshape(-1, len(self._taps)) @ self._taps
        return found.reshape(*places.shape[:2], -1) + (
            (inside_y * inside_x)[..., None] * self._offset)


def _reached(places: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Along one axis: which input `(..., 4)` each of the taps reads, and its share, 0 outside.

    Also the share `(...,)` of the cells that lie inside the raised map.
    """
    before = np.floor(places)
    rest = (places - before).astype(np.float32)
    before = before.astype(np.int64)[..., None]
    taps = np.arange(4)
    # Output i is reached by tap t from input (i + 1 - t) / 2, where that is whole.
    odd = (before + 1 - taps) % 2
    output = before + odd
    share = np.where(odd == 1, rest[..., None], 1 - rest[..., None])
    inputs = (output + 1 - taps) // 2
    inside = (output >= 0) & (output < 2 * length)
    reached = inside & (inputs >= 0) & (inputs < length)
    whole = (share * inside)[..., 1:3].sum(-1)
    return np.where(reached, inputs, 0), np.where(reached, share, np.float32(0)), whole


@dataclass(frozen=True)
class PackedBoxNet:
    """
    The body's map and its joints' probabilities to boxes.

    deconvolutions  binary ones, two or three
    maps            what reads the last one's values
    sizes           of each part: a binary linear layer, then one of floats
    scale           cells of that map to one of the body's
    """

    deconvolutions: Sequence[PackedDeconvolution]
    maps: ReadMaps | RaisedMaps
    sizes: Sequence[tuple[PackedLayer, Line]]
    scale: int

    def __call__(
            self, place: Workplace, feature: np.ndarray,
            likely: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Centres and sizes `(N, P, 2)` in cells of the body's heat-maps.

        feature (N, H, W, C), likely (N, H, W, J, D): the signs are of what they are above uniform.
        """
        cells = np.float32(likely.shape[1] * likely.shape[2] * likely.shape[4])
        around = (cells * likely - 1).reshape(*likely.shape[:3], -1)
        signal = Signal.of(np.concatenate([feature, around], -1))
        for deconvolution in self.deconvolutions:
            signal = deconvolution(place, signal)
        values = signal.values.copy()
        centres = soft_argmax(self.maps.centres(values), 1)[0][..., :2]
        read = self.maps.at(values, centres)
        sizes = [self._size(place, read[:, row], *layers)
                 for row, layers in enumerate(self.sizes)]
        return centres / np.float32(self.scale), np.stack(sizes, 1)

    def _size(
            self, place: Workplace, read: np.ndarray, binary: PackedLayer,
            last: Line) -> np.ndarray:
        signal = Signal.of(np.ascontiguousarray(read[:, None, None]))
        return last(np.maximum(binary(place, signal).values[:, 0, 0], 0))
