# SPDX-License-Identifier: Apache-2.0
"""Weights files of rsc_net and rsc_temporal, and what must be known to use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from hmr_ros.networks.rsc_net import BodyFilter, RscNet, RscTemporal
from hmr_ros.training import weights_file
from hmr_ros.training.errors import TrainingError

IMAGE, TEMPORAL, FILTER = 'rsc_net', 'rsc_temporal', 'body_filter'
AnyNetwork = RscNet | RscTemporal | BodyFilter
#: the contrastive head, beside the network; optional.
CONTRAST = 'contrast.'
_SYSTEM = 'rsc_net'


@dataclass(frozen=True)
class RscFacts:
    """
    What a weights file is for; kept in its header.

    network         IMAGE, TEMPORAL or FILTER
    regressor_relu  whether the regressor has activations (sheet 2.2)
    features        length of the image network's feature
    hidden          width of the GRU; not of IMAGE
    features_of     digest of the engine whose features the GRU was trained on, '' when unknown
    mean, std       normalisation per channel R, G, B of values 0 to 1; of IMAGE only
    body_model      body whose shape space `betas` lives in: open_body or smpl
    backbone        of IMAGE: resnet50, the published one, or compact
    licence         SPDX name, or what to ask the source of the weights
    """

    network: str = IMAGE
    regressor_relu: bool = True
    features: int = 2048
    hidden: int = 1024
    features_of: str = ''
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    body_model: str = 'open_body'
    licence: str = 'Apache-2.0'
    backbone: str = 'resnet50'

    @property
    def summary(self) -> str:
        """One line for people."""
        if self.network == FILTER:
            return f'{self.network} of {self.features} features'
        activations = 'with' if self.regressor_relu else 'without'
        name = f'{self.network} on {self.backbone}' if self.network == IMAGE else self.network
        return f'{name}, regressor {activations} activations'


def build_network(facts: RscFacts) -> AnyNetwork:
    """Build the network that `facts` describe, with random weights."""
    if facts.network == FILTER:
        return BodyFilter(facts.features, facts.hidden)
    if facts.network == TEMPORAL:
        return RscTemporal(facts.features, facts.hidden, facts.regressor_relu)
    return RscNet(facts.regressor_relu, facts.backbone)


def save_weights(
        state: dict[str, torch.Tensor], path: str | Path, facts: RscFacts = RscFacts()) -> Path:
    """Write tensors, the network's under `network.`, and facts."""
    return weights_file.save(state, path, _SYSTEM, facts)


def read_facts(path: str | Path) -> RscFacts:
    """Return the facts of a file; TrainingError when they name no network of this system."""
    facts = weights_file.facts_of(path, _SYSTEM, RscFacts)
    known = (IMAGE, TEMPORAL, FILTER)
    if facts.network not in known:
        raise TrainingError(
            f'weights {path} are of the network {facts.network!r}; expected one of '
            f'{", ".join(known)}')
    return facts


def read_network(path: str | Path) -> tuple[AnyNetwork, RscFacts]:
    """Return the network of a weights file, as trained, and its facts."""
    facts = read_facts(path)
    network = build_network(facts)
    weights_file.fill(network, weights_file.network_tensors(path), path)
    return network, facts
