# SPDX-License-Identifier: Apache-2.0
"""Weights files of the person detector, and what must be known to use them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hmr_ros.networks.mgil import Downsampling
from hmr_ros.networks.mgil.deploy import unfolded_state
from hmr_ros.networks.mgil.detector import build_detector, Detector, DetectorVariant
from hmr_ros.training import weights_file
from hmr_ros.training.errors import TrainingError

_SYSTEM = 'mgil_detector'


@dataclass(frozen=True)
class DetectorFacts:
    """
    What a weights file is for; kept in its header.

    stages        width of the DetectorVariant;  downsampling: its, as a table
    height, width of an engine's pictures in pixels, unless told otherwise
    licence       SPDX name
    """

    stages: float = 0.5
    downsampling: dict[str, Any] = field(default_factory=lambda: asdict(Downsampling()))
    height: int = 384
    width: int = 512
    licence: str = 'Apache-2.0'

    @property
    def variant(self) -> DetectorVariant:
        """The network they are of."""
        return DetectorVariant(self.stages, Downsampling(**self.downsampling))

    @property
    def network(self) -> str:
        """The system."""
        return _SYSTEM


def save_weights(network: Detector, path: str | Path) -> Path:
    """Write the tensors of a detector and its facts."""
    variant = network.variant
    return weights_file.save(
        {f'{weights_file.NETWORK}{name}': value.detach().cpu()
         for name, value in unfolded_state(network).items()},
        path, _SYSTEM, DetectorFacts(variant.width, asdict(variant.downsampling)))


def read_network(path: str | Path) -> tuple[Detector, DetectorFacts]:
    """Return the network of a weights file, as trained, and its facts."""
    facts = weights_file.facts_of(path, _SYSTEM, DetectorFacts)
    try:
        network = build_detector(facts.variant)
    except (ValueError, TypeError) as error:
        raise TrainingError(f'weights {path} are of no detector of mgil: {error}') from error
    weights_file.fill(network, weights_file.network_tensors(path), path)
    return network, facts
