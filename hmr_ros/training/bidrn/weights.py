# SPDX-License-Identifier: Apache-2.0
"""Weights files of the whole-body network, and what must be known to use them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from hmr_ros.networks.bidrn import build_network, Variant, WholeBody
from hmr_ros.training import weights_file
from hmr_ros.training.errors import TrainingError

_SYSTEM = 'bidrn'


@dataclass(frozen=True)
class WholeBodyFacts:
    """
    What a weights file is for; kept in its header.

    row         name of the variant, of NAMED, or what else the weights are called
    choices     fields of the Variant
    body_model  whose shapes and poses they know: open_whole_body, or smplx
    licence     SPDX name, or what to ask the source of the weights
    """

    row: str = 'bidrn'
    choices: dict[str, Any] = field(default_factory=lambda: asdict(Variant()))
    body_model: str = 'open_whole_body'
    licence: str = 'Apache-2.0'

    @property
    def variant(self) -> Variant:
        """The network they are of; ValueError or TypeError when there is none such."""
        return Variant(**{name: tuple(value) if isinstance(value, list) else value
                          for name, value in self.choices.items()})

    @property
    def network(self) -> str:
        """The system."""
        return _SYSTEM

    @property
    def summary(self) -> str:
        """One line for people."""
        return f'{self.row}, plan {self.variant.plan}, body model {self.body_model}'


def save_weights(
        state: dict[str, torch.Tensor], path: str | Path, facts: WholeBodyFacts) -> Path:
    """Write the tensors of a network, and facts."""
    return weights_file.save(
        {f'{weights_file.NETWORK}{name}': value.detach().cpu() for name, value in state.items()},
        path, _SYSTEM, facts)


def read_facts(path: str | Path) -> WholeBodyFacts:
    """Return the facts of a weights file; TrainingError when they are of no network here."""
    facts = weights_file.facts_of(path, _SYSTEM, WholeBodyFacts)
    try:
        facts.variant
    except (ValueError, TypeError) as error:
        raise TrainingError(f'weights {path} are of no network of bidrn: {error}') from error
    return facts


def read_network(path: str | Path) -> tuple[WholeBody, WholeBodyFacts]:
    """Return the network of a weights file, as trained, and its facts."""
    facts = read_facts(path)
    network = build_network(facts.variant)
    weights_file.fill(network, weights_file.network_tensors(path), path)
    return network, facts
