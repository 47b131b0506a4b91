# SPDX-License-Identifier: Apache-2.0
"""Weights files of keypoint_guided (.safetensors): tensors, and what must be known to use them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from hmr_ros.networks.keypoint_guided import AnyNetwork, build_network, Variant
from hmr_ros.training.errors import TrainingError

#: parts of a training module that only training has; a stage may begin without them.
HELPERS = ('decoder.', 'early.', 'sheet.', 'pretraining.')
_NETWORK = 'network.'


@dataclass(frozen=True)
class WeightsFacts:
    """
    What a weights file is for; kept in its header.

    backbone, tokens  the variant of the network
    mean, std         normalisation per channel R, G, B of values 0 to 1
    projection        camera of the keypoints: real_camera or known_box
    body_model        body whose shape space `betas` lives in: open_body or smpl
    licence           SPDX name, or what to ask the source of the weights
    """

    backbone: str = 'mgfenet'
    tokens: int = 96
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    projection: str = 'real_camera'
    body_model: str = 'open_body'
    licence: str = 'Apache-2.0'

    @property
    def variant(self) -> Variant:
        """The network these weights fit."""
        return Variant(self.backbone, self.tokens)


def save_weights(
        state: dict[str, torch.Tensor], path: str | Path,
        facts: WeightsFacts = WeightsFacts()) -> Path:
    """Write tensors, the network's under `network.`, and facts."""
    tensors = {name: value.contiguous() for name, value in state.items()}
    safetensors.torch.save_file(tensors, path, {'keypoint_guided': json.dumps(asdict(facts))})
    return Path(path)


def read_facts(path: str | Path) -> WeightsFacts:
    """Return the facts of a file; files without a header are of the default network."""
    try:
        with safetensors.safe_open(path, 'pt') as file:
            header = (file.metadata() or {}).get('keypoint_guided', '{}')
        values = json.loads(header)
        triples = {name: tuple(values[name]) for name in ('mean', 'std') if name in values}
        return WeightsFacts(**{**values, **triples})
    except (OSError, safetensors.SafetensorError, ValueError, TypeError) as error:
        raise TrainingError(f'{path} is not a weights file of keypoint_guided: {error}') from error


def load_weights(module: torch.nn.Module, path: str | Path) -> None:
    """
    Load a file into a training module; raises TrainingError when a tensor is missing or extra.

    Only HELPERS may be missing or extra: another stage may have trained without or with them.
    """
    own = module.state_dict()
    state = {name: value for name, value in _tensors(path).items()
             if name in own or not name.startswith(HELPERS)}
    helpers = {name: value for name, value in own.items()
               if name.startswith(HELPERS) or not name.startswith(_NETWORK)}
    _fill(module, {**helpers, **state}, path)


def read_network(path: str | Path) -> tuple[AnyNetwork, WeightsFacts]:
    """Return the network of a weights file, as trained, and its facts."""
    facts = read_facts(path)
    network = build_network(facts.variant)
    state = {name.removeprefix(_NETWORK): value for name, value in _tensors(path).items()
             if name.startswith(_NETWORK)}
    _fill(network, state, path)
    return network, facts


def _tensors(path: str | Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise TrainingError(f'weights {path} cannot be read: {error}') from error


def _fill(module: torch.nn.Module, state: dict[str, torch.Tensor], path: str | Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(f'weights {path} do not fit this network: {error}') from error
