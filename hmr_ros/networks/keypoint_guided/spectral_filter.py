# SPDX-License-Identifier: Apache-2.0
"""The global filter: a learned product in the frequency plane (sheet 2.1 and 7.1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


class SpectralFilter(nn.Module):
    """
    z = x + IRFFT2(K * RFFT2(x)), both transforms orthonormal.

    x (N, C, size, size) float32; K complex (C, size, size/2 + 1), stored as real and imaginary
    part in the last axis of `complex_weight`. Smaller inputs use K resampled (`resampled`).
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.complex_weight = nn.Parameter(
            0.02 * torch.randn(channels, size, size // 2 + 1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter `x` in float32, whatever the autocast type."""
        with torch.autocast(x.device.type, enabled=False):
            size = x.shape[-1]
            weight = torch.view_as_complex(self.resampled(size).contiguous())
            spectrum = torch.fft.rfft2(x.float(), norm='ortho') * weight
            return x + torch.fft.irfft2(spectrum, s=(size, size), norm='ortho')

    def resampled(self, size: int) -> torch.Tensor:
        """
        K for an input of `size` pixels, `(C, size, size/2 + 1, 2)`.

        A smaller picture has the same frequencies per pixel on a coarser grid: every n-th of K.
        """
        if size == self.size:
            return self.complex_weight
        step, rest = divmod(self.size, size)
        if rest:
            raise ValueError(f'filter of {self.size} pixels cannot serve an input of {size}; give '
                             f'a size that divides {self.size}')
        return self.complex_weight[:, ::step, ::step]


class MatmulSpectralFilter(nn.Module):
    """The same filter as real matrix products: what engines without a DFT can run (sheet 7.1)."""

    def __init__(self, source: SpectralFilter) -> None:
        super().__init__()
        size = source.size
        rows, columns = _cos_sin(size, size), _cos_sin(size, size // 2 + 1)
        (cos_h, sin_h), (cos_w, sin_w) = rows, columns
        weight = source.complex_weight.detach().double()
        scale = np.full(size // 2 + 1, 2.0)
        scale[0] = scale[-1] = 1.0
        self._store('forward_rows', np.concatenate([cos_w, -sin_w], 1))
        self._store('forward_columns', np.block([[cos_h, sin_h], [-sin_h, cos_h]]))
        self._store('inverse_columns', np.block([[cos_h, -sin_h], [sin_h, cos_h]]))
        self._store('inverse_rows', np.concatenate(
            [scale[:, None] * cos_w.T, -scale[:, None] * sin_w.T], 0))
        # Both halves of the product side by side: real and imaginary stacked along the rows.
        self._store('real', torch.cat([weight[..., 0], weight[..., 0]], 1).numpy())
        self._store('imaginary', torch.cat([-weight[..., 1], weight[..., 1]], 1).numpy())
        self.size, self.width = size, size // 2 + 1

    def _store(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter `x` `(N, C, size, size)`."""
        rows = x @ self.forward_rows
        stacked = torch.cat([rows[..., :self.width], rows[..., self.width:]], -2)
        spectrum = self.forward_columns @ stacked
        swapped = torch.cat([spectrum[..., self.size:, :], spectrum[..., :self.size, :]], -2)
        product = spectrum * self.real + swapped * self.imaginary
        columns = self.inverse_columns @ product
        joined = torch.cat([columns[..., :self.size, :], columns[..., self.size:, :]], -1)
        return x + joined @ self.inverse_rows


def _cos_sin(size: int, frequencies: int) -> tuple[np.ndarray, np.ndarray]:
    angle = 2 * np.pi / size * np.outer(np.arange(size), np.arange(frequencies))
    return np.cos(angle) / np.sqrt(size), np.sin(angle) / np.sqrt(size)
