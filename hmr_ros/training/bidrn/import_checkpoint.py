# SPDX-License-Identifier: Apache-2.0
"""Snapshots of Hand4Whole, tensor by tensor (sheet, section 5)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from hmr_ros.networks.bidrn import HAND4WHOLE, WholeBody
from hmr_ros.training.bidrn.weights import save_weights, WholeBodyFacts
from hmr_ros.training.checkpoint_file import read_checkpoint, refuse_left, State, take

LICENCE = 'unknown: ask the authors of the checkpoint'
#: counters that nothing needs.
COUNTER = '.num_batches_tracked'
#: the licensed body model, which old snapshots hold.
_BODY = 'smplx_layer.'


def import_checkpoint(path: str | Path, out: str | Path) -> WholeBodyFacts:
    """
    Convert `snapshot_<epoch>.pth.tar` into a weights file of ours; returns its facts.

    Every tensor is used once, dropped because the sheet says so (licensed body data and counters),
    or named in the TrainingError that refuses the file.
    """
    found = {key: value for key, value in read_checkpoint(path).items()
             if not key.startswith(_BODY)}
    state = {name: _taken(found, name, value, path) for name, value in _wanted().items()}
    refuse_left(found, 'Hand4Whole', path)
    facts = WholeBodyFacts('hand4whole', asdict(HAND4WHOLE), 'smplx', LICENCE)
    save_weights(state, out, facts)
    return facts


def _wanted() -> State:
    """Tensors of the network, without memory: their names are Hand4Whole's."""
    with torch.device('meta'):
        return WholeBody(HAND4WHOLE).state_dict()


def _taken(found: State, name: str, ours: torch.Tensor, path: str | Path) -> torch.Tensor:
    if name.endswith(COUNTER):
        return found.pop(name, torch.zeros((), dtype=torch.long))
    return take(found, name, tuple(ours.shape), path).float()
