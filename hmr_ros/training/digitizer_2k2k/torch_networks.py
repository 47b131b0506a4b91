# SPDX-License-Identifier: Apache-2.0
"""The digitizer's networks for one person, run by torch: numpy in and out."""

from __future__ import annotations

import numpy as np
import torch

from hmr_ros.networks.digitizer_2k2k import Digitizer


class TorchNetworks:
    """The `Networks` of perception; all arrays are float32."""

    def __init__(self, network: Digitizer) -> None:
        self.resolution = network.variant.resolution
        self._network = network

    def low(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map `(3, S / 8, S / 8)` to normals (6, S / 8, S / 8) and depth `(3, S / 8, S / 8)`."""
        with torch.inference_mode():
            normals, depth = self._network.low(self._tensor(image[None]))
        return _array(normals)[0], _array(depth)[0]

    def parts(self, patches: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Map patches `(B, 6, h, w)` by the names of PATCHES to normals `(B, 6, h, w)`."""
        with torch.inference_mode():
            return {name: _array(self._network.parts[name](self._tensor(batch)))
                    for name, batch in patches.items()}

    def refine(self, pair: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Map D `(2, S / 8, S / 8)` and normals `(6, S, S)` to `(3, S, S)`: both D, mask."""
        with torch.inference_mode():
            return _array(self._network.high_depth(
                self._tensor(pair[None]), self._tensor(normals[None])))[0]

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        weights = self._network.low_normals.head.weight
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(
            weights.device).contiguous(memory_format=torch.channels_last)


def networks_of(network: Digitizer) -> TorchNetworks:
    """Run `network` for single people; it is switched to evaluation mode."""
    return TorchNetworks(network.eval())


def _array(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
