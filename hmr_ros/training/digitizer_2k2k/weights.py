# SPDX-License-Identifier: Apache-2.0
"""Weights files of digitizer_2k2k, and what must be known to use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from hmr_ros.networks.digitizer_2k2k import build_network, Digitizer, NARROW, Variant
from hmr_ros.training import weights_file
from hmr_ros.training.errors import TrainingError

_SYSTEM = 'digitizer_2k2k'
#: beginning of the names of what is trained in the second phase alone.
SECOND_PHASE = 'high_depth.'


@dataclass(frozen=True)
class DigitizerFacts:
    """
    What a weights file is for; kept in its header.

    resolution, width  of the Variant
    phase              2 for all networks, 1 for all but that of high-resolution depth
    source_sha256      digest of the checkpoint they were imported from, '' for those trained here
    licence            SPDX name
    """

    resolution: int = NARROW.resolution
    width: float = NARROW.width
    phase: int = 2
    source_sha256: str = ''
    licence: str = 'Apache-2.0'

    @property
    def variant(self) -> Variant:
        """The networks they are of; ValueError when there are none such."""
        return Variant(self.resolution, self.width)

    @property
    def network(self) -> str:
        """The system."""
        return _SYSTEM

    @property
    def summary(self) -> str:
        """One line for people."""
        return (f'images of {self.resolution} pixels, width {self.width:g}, phase {self.phase}, '
                f'licence {self.licence}')


def save_weights(
        state: dict[str, torch.Tensor], path: str | Path, facts: DigitizerFacts) -> Path:
    """Write the tensors of the networks, and facts."""
    return weights_file.save(
        {f'{weights_file.NETWORK}{name}': value.detach().cpu() for name, value in state.items()},
        path, _SYSTEM, facts)


def facts_of(path: str | Path) -> DigitizerFacts:
    """Return the facts of a weights file."""
    return weights_file.facts_of(path, _SYSTEM, DigitizerFacts)


def read_network(path: str | Path) -> tuple[Digitizer, DigitizerFacts]:
    """
    Return the networks of a weights file, as trained, and its facts.

    After phase 1 that of high-resolution depth has its random start.
    """
    facts = facts_of(path)
    try:
        network = build_network(facts.variant)
    except (ValueError, TypeError) as error:
        raise TrainingError(
            f'weights {path} are of no networks of digitizer_2k2k: {error}') from error
    state = weights_file.network_tensors(path)
    if facts.phase == 1:
        state |= {name: value for name, value in network.state_dict().items()
                  if name.startswith(SECOND_PHASE)}
    weights_file.fill(network, state, path)
    return network, facts
