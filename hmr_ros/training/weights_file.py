# SPDX-License-Identifier: Apache-2.0
"""Weights files (.safetensors): tensors, the network's under `network.`, and facts in a header."""

from __future__ import annotations

from dataclasses import asdict
import json
from pathlib import Path
from typing import Any, Sequence, TypeVar

import safetensors
import safetensors.torch
import torch

from hmr_ros.training.errors import TrainingError

#: beginning of the names of the tensors that are deployed.
NETWORK = 'network.'
Facts = TypeVar('Facts')


def save(state: dict[str, torch.Tensor], path: str | Path, system: str, facts: Any) -> Path:
    """Write tensors and `facts`, a dataclass of plain values, as those of `system`."""
    tensors = {name: value.contiguous() for name, value in state.items()}
    safetensors.torch.save_file(tensors, path, {system: json.dumps(asdict(facts))})
    return Path(path)


def facts_of(path: str | Path, system: str, kind: type[Facts]) -> Facts:
    """Return the facts of a file; one without a header has the defaults of `kind`."""
    try:
        with safetensors.safe_open(path, 'pt') as file:
            header = (file.metadata() or {}).get(system, '{}')
        values = {name: tuple(value) if isinstance(value, list) else value
                  for name, value in dict(json.loads(header)).items()}
        return kind(**values)
    except (OSError, safetensors.SafetensorError, ValueError, TypeError) as error:
        raise TrainingError(f'{path} is not a weights file of {system}: {error}') from error


def tensors_of(path: str | Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a file."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise TrainingError(f'weights {path} cannot be read: {error}') from error


def network_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the deployed network, by their names in it."""
    return {name.removeprefix(NETWORK): value for name, value in tensors_of(path).items()
            if name.startswith(NETWORK)}


def fill(module: torch.nn.Module, state: dict[str, torch.Tensor], path: str | Path) -> None:
    """Load `state`, which came from `path`; TrainingError when a tensor is missing or extra."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(f'weights {path} do not fit this network: {error}') from error


def average(paths: Sequence[str | Path], out: str | Path) -> Path:
    """
    Write the mean of weights that were trained from the same start, which often beats each of them.

    (Wortsman et al., Model soups, 2022.) Counters come from the first; helpers of training that not
    all have alike are left out. Raises TrainingError when the files are of different networks or
    for different uses.
    """
    first, *others = (tensors_of(path) for path in paths)
    headers = [_header(path) for path in paths]
    for path, header, state in zip(paths[1:], headers[1:], others):
        if header != headers[0] or _deployed_shapes(state) != _deployed_shapes(first):
            raise TrainingError(
                f'weights {path} are of another network, or for another use, than {paths[0]}; '
                'average runs of one training only')
    mean = {name: torch.stack([value.double(), *(state[name].double() for state in others)])
            .mean(0).to(value.dtype) if value.is_floating_point() else value
            for name, value in first.items()
            if all(name in state and state[name].shape == value.shape for state in others)}
    safetensors.torch.save_file(mean, out, headers[0])
    return Path(out)


def _deployed_shapes(state: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items() if name.startswith(NETWORK)}


def _header(path: str | Path) -> dict[str, str]:
    with safetensors.safe_open(path, 'pt') as file:
        return dict(file.metadata() or {})
