# SPDX-License-Identifier: Apache-2.0
"""The torch module of a network behind the interface of an engine, to compare engines with."""

from __future__ import annotations

from typing import Mapping

import numpy as np
import torch

from hmr_ros.networks.keypoint_guided import (
    AnyNetwork, build_network, COMPACT, input_shapes, output_shapes, Variant)
from hmr_ros.runtime.manifest import ManifestEntry, specs


class EagerEngine:
    """keypoint_guided as torch runs it layer by layer."""

    name, backend, precision, sha256 = 'keypoint_guided', 'torch eager', 'fp32', ''
    reason = 'asked for'

    def __init__(self, threads: int, network: AnyNetwork) -> None:
        self.inputs, self.outputs = specs(input_shapes(network)), specs(output_shapes(network))
        self._network = network.eval().to(memory_format=torch.channels_last)
        self._threads = threads

    @classmethod
    def like(cls, entry: ManifestEntry, threads: int) -> EagerEngine:
        """Random weights, on which speed does not depend, for an engine of the same crops."""
        compact = build_network(COMPACT)
        fits = entry.image_size == compact.image_size
        return cls(threads, compact if fits else build_network(Variant()))

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch of `image` (N, 3, S, S)."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        image = torch.from_numpy(feeds['image']).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            prediction = self._network(image)
        return {name: value.numpy() for name, value in prediction._asdict().items()}

    def close(self) -> None:
        """Nothing to free."""


def eager_like(entry: ManifestEntry, threads: int) -> EagerEngine | None:
    """Return `EagerEngine.like` of an engine of keypoint_guided, None for other networks."""
    return EagerEngine.like(entry, threads) if entry.network == 'keypoint_guided' else None
