# SPDX-License-Identifier: Apache-2.0
"""Windows of tracks as an endless torch dataset; some of their frames are missing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import IterableDataset

from hmr_ros.training.rsc_net.temporal_config import TemporalConfig
from hmr_ros.training.rsc_net.tracks import Tracks


class Windows(IterableDataset):
    """Batches without end: the arrays of `Tracks`, `(N, window, ...)`, and shape `(N, 10)`."""

    def __init__(self, tracks: Tracks, config: TemporalConfig) -> None:
        self.tracks, self.config = tracks, config

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Draw windows; batch i depends on the seed and on i only."""
        index = 0
        while True:
            rng = np.random.default_rng([self.config.seed, 13, index])
            rows = [self._window(rng) for _ in range(self.config.batch)]
            yield {name: torch.from_numpy(np.stack([row[name] for row in rows]))
                   for name in rows[0]}
            index += 1

    def _window(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        tracks, film = self.tracks, int(rng.integers(len(self.tracks)))
        chosen = kept_frames(rng, self.config)
        rows = {name: getattr(tracks, name)[film, chosen]
                for name in ('feature', 'pose6d', 'betas', 'rotmats', 'joints2d')}
        return {**rows, 'shape': tracks.shape[film]}


def kept_frames(rng: np.random.Generator, config: TemporalConfig) -> np.ndarray:
    """
    Draw `window` frame numbers that ascend; up to the share `dropped` is missing among them.

    The longest possible stretch is that of the film.
    """
    span = int(config.window / (1 - rng.uniform(0, config.dropped)))
    span = min(span, config.frames)
    first = rng.integers(config.frames - span + 1)
    # The network meets the window's first and last frame whatever is dropped between.
    inner = 1 + rng.choice(span - 2, config.window - 2, replace=False)
    return first + np.concatenate([[0], np.sort(inner), [span - 1]])
