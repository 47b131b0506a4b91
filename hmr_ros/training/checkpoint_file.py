# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files of other projects: tensors by name, and no code ever run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import pickle

import torch
from torch import nn

from hmr_ros.training.errors import TrainingError

State = dict[str, torch.Tensor]
#: where training programs keep the tensors inside their files.
CONTAINERS = ('best_state_dict', 'model', 'state_dict', 'gen_state_dict', 'network',
              'model_state_dict')


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """
    Read the tensors of a torch file: a bare state dict, or one below a name of CONTAINERS.

    A leading `module.` is stripped. Raises TrainingError for a file that cannot be read, that holds
    anything but tensors, or whose pickle asks for more than tensors: that is never run.
    """
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise TrainingError(f'checkpoint {path} cannot be read: {error}') from error
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0]
        raise TrainingError(
            f'checkpoint {path} is refused: it asks to run code or holds objects that are not '
            f'tensors ({first}); save its state dict with torch.save and try again') from error
    for name in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict) or not content or not all(
            isinstance(value, torch.Tensor) for value in content.values()):
        raise TrainingError(
            f'checkpoint {path} holds no state dict; expected tensors by name, or such a table '
            f'below {" or ".join(CONTAINERS)}')
    return {name.removeprefix('module.'): value for name, value in content.items()}


def take(
        found: dict[str, torch.Tensor], key: str, shape: tuple[int, ...],
        path: str | Path) -> torch.Tensor:
    """Remove tensor `key` from `found`; TrainingError when absent, misshapen or not finite."""
    if key not in found:
        raise TrainingError(f'checkpoint {path} lacks {key!r}; is the file whole?')
    value = found.pop(key)
    if tuple(value.shape) != shape:
        raise TrainingError(
            f'checkpoint {path}: {key!r} has shape {tuple(value.shape)}; expected {shape}')
    if not torch.isfinite(value).all():
        raise TrainingError(f'checkpoint {path}: {key!r} holds numbers that are not finite')
    return value


def refuse_left(found: dict[str, torch.Tensor], expected: str, path: str | Path) -> None:
    """Raise TrainingError, naming the first, when tensors are left; `expected` names the layout."""
    if found:
        first, more = next(iter(found)), len(found) - 1
        raise TrainingError(
            f'checkpoint {path} holds {first!r} and {more} more that this network does not have; '
            f'expected the layout of {expected}')


@dataclass(frozen=True)
class Transfer:
    """
    What became of the tensors, by our names.

    loaded   of the checkpoint, in the network now
    refused  of the checkpoint, without a place of that name and shape in the network
    fresh    of the network, which keep what they were
    """

    loaded: tuple[str, ...]
    refused: tuple[str, ...]
    fresh: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line for people."""
        return (f'{len(self.loaded)} tensors loaded, {len(self.refused)} refused, '
                f'{len(self.fresh)} start fresh')


def transfer(state: State, network: nn.Module) -> Transfer:
    """
    Load what fits of a checkpoint's `state` into any network, for further training.

    The rest is named.
    """
    own = network.state_dict()
    fits = {name: value for name, value in state.items()
            if name in own and own[name].shape == value.shape}
    network.load_state_dict(fits, strict=False)
    return Transfer(tuple(fits), tuple(name for name in state if name not in fits),
                    tuple(name for name in own if name not in fits))
