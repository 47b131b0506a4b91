# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: batches shared among workers and trainers, and steps that are behind."""

from __future__ import annotations

import os
from pathlib import Path
import pickle

import torch
from torch.utils.data import get_worker_info

from hmr_ros.training.errors import TrainingError


def turn_of_worker() -> tuple[int, int]:
    """Return this worker's turn and the number of workers of all trainer processes."""
    worker = get_worker_info()
    place, workers = (worker.id, worker.num_workers) if worker else (0, 1)
    # Trainers tell their place to their children in these variables; a single one has neither.
    rank = int(os.environ.get('RANK', os.environ.get('LOCAL_RANK', 0)))
    world = int(os.environ.get('WORLD_SIZE', 1))
    return place * world + rank, workers * world


def steps_done(checkpoint: str | Path) -> int:
    """Optimiser steps behind a checkpoint; raises TrainingError when it is none."""
    try:
        content = torch.load(checkpoint, map_location='cpu', weights_only=True, mmap=True)
        return int(content['global_step'])
    except (OSError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f'{checkpoint} is not a checkpoint of `hmr train` to resume from: {error}') from error
