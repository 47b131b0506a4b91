# SPDX-License-Identifier: Apache-2.0
"""Weights files of the pose networks of mgil, and what must be known to use them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from hmr_ros.networks.mgil import build_pose, Downsampling, PoseNetwork, PoseVariant
from hmr_ros.training import weights_file
from hmr_ros.training.errors import TrainingError

_SYSTEM = 'mgil'


@dataclass(frozen=True)
class PoseFacts:
    """
    What a weights file is for; kept in its header.

    backbone ... keypoints  of the PoseVariant; `downsampling` as a table
    color_order  of the channels of `image`: rgb, or bgr for SimCC's ResNets
    mean, std    per channel in that order, of values 0 to 1
    labels       what it was trained with: smoothing or gaussian
    score_mode   which peak counts as the score: max or min
    flip_shift   bins of the flip test, None for split_ratio - 1
    top_score    peak of a keypoint it is sure of: the label's own
    licence      SPDX name, or what to ask the source of the weights
    """

    backbone: str = 'small'
    downsampling: dict[str, Any] = field(default_factory=lambda: asdict(Downsampling()))
    height: int = 64
    width: int = 64
    split_ratio: float = 3
    keypoints: int = 17
    color_order: str = 'rgb'
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    labels: str = 'smoothing'
    score_mode: str = 'max'
    flip_shift: int | None = None
    top_score: float = 1.0
    licence: str = 'Apache-2.0'

    @classmethod
    def of(cls, variant: PoseVariant, **facts: Any) -> PoseFacts:
        """Facts of the weights of a variant, the other ones by name."""
        return cls(variant.backbone, asdict(variant.downsampling), variant.height, variant.width,
                   variant.split_ratio, variant.keypoints, **facts)

    @property
    def variant(self) -> PoseVariant:
        """The network they are of."""
        return PoseVariant(self.backbone, Downsampling(**self.downsampling), self.height,
                           self.width, self.split_ratio, self.keypoints)

    @property
    def network(self) -> str:
        """The system."""
        return _SYSTEM

    @property
    def summary(self) -> str:
        """One line for people."""
        return (f'{self.backbone}, {self.downsampling["kind"]}, crops of '
                f'{self.width}x{self.height} pixels, {self.color_order}')


def save_weights(state: dict[str, torch.Tensor], path: str | Path, facts: PoseFacts) -> Path:
    """Write tensors, the network's under `network.`, and facts."""
    return weights_file.save(state, path, _SYSTEM, facts)


def read_network(path: str | Path) -> tuple[PoseNetwork, PoseFacts]:
    """Return the network of a weights file, as trained, and its facts."""
    facts = weights_file.facts_of(path, _SYSTEM, PoseFacts)
    try:
        network = build_pose(facts.variant)
    except (ValueError, TypeError) as error:
        raise TrainingError(f'weights {path} are of no network of mgil: {error}') from error
    weights_file.fill(network, weights_file.network_tensors(path), path)
    return network, facts
