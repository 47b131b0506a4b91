# SPDX-License-Identifier: Apache-2.0
"""The torch module of a network behind the interface of an engine, to compare engines with."""

from __future__ import annotations

from typing import Mapping

import numpy as np
import torch

from hmr_ros.networks.keypoint_guided import KeypointGuided
from hmr_ros.runtime import TensorSpec


class EagerEngine:
    """keypoint_guided as torch runs it layer by layer; speed does not depend on the weights."""

    name, backend, precision, sha256 = 'keypoint_guided', 'torch eager', 'fp32', ''
    inputs = (TensorSpec('image', (-1, 3, 256, 256), 'float32'),)
    outputs = tuple(TensorSpec(name, shape, 'float32') for name, shape in (
        ('uvd', (-1, 96, 3)), ('sigma', (-1, 96, 3)), ('phi', (-1, 23, 2)), ('betas', (-1, 10)),
        ('cam', (-1, 3)), ('feature', (-1, 1216))))

    def __init__(self, threads: int, network: KeypointGuided | None = None) -> None:
        network = network if network is not None else KeypointGuided()
        self._network = network.eval().to(memory_format=torch.channels_last)
        self._threads = threads

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch of `image` (N, 3, 256, 256)."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        image = torch.from_numpy(feeds['image']).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            prediction = self._network(image)
        return {name: value.numpy() for name, value in prediction._asdict().items()}

    def close(self) -> None:
        """Nothing to free."""
