# SPDX-License-Identifier: Apache-2.0
"""Weights files of keypoint_guided (.safetensors): tensors, and what must be known to use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from hmr_ros.networks.keypoint_guided import AnyNetwork, build_network, Variant
from hmr_ros.training import weights_file

#: parts of a training module that only training has; a stage may begin without them.
HELPERS = ('decoder.', 'early.', 'sheet.', 'pretraining.')
_SYSTEM = 'keypoint_guided'


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

    @property
    def network(self) -> str:
        """The system."""
        return _SYSTEM

    @property
    def summary(self) -> str:
        """One line for people."""
        return f'{self.backbone}, {self.tokens} tokens'


def save_weights(
        state: dict[str, torch.Tensor], path: str | Path,
        facts: WeightsFacts = WeightsFacts()) -> Path:
    """Write tensors, the network's under `network.`, and facts."""
    return weights_file.save(state, path, _SYSTEM, facts)


def read_facts(path: str | Path) -> WeightsFacts:
    """Return the facts of a file; files without a header are of the default network."""
    return weights_file.facts_of(path, _SYSTEM, WeightsFacts)


def load_weights(module: torch.nn.Module, path: str | Path) -> None:
    """
    Load a file into a training module; raises TrainingError when a tensor is missing or extra.

    Only HELPERS may be missing or extra: another stage may have trained without or with them.
    """
    own = module.state_dict()
    state = {name: value for name, value in weights_file.tensors_of(path).items()
             if name in own or not name.startswith(HELPERS)}
    helpers = {name: value for name, value in own.items()
               if name.startswith(HELPERS) or not name.startswith(weights_file.NETWORK)}
    weights_file.fill(module, {**helpers, **state}, path)


def read_network(path: str | Path) -> tuple[AnyNetwork, WeightsFacts]:
    """Return the network of a weights file, as trained, and its facts."""
    facts = read_facts(path)
    network = build_network(facts.variant)
    weights_file.fill(network, weights_file.network_tensors(path), path)
    return network, facts
