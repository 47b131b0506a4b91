# SPDX-License-Identifier: Apache-2.0
"""What one training stage is made of; read from a YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hmr_ros.training.config_file import check_choices, read_table
from hmr_ros.training.errors import TrainingError


@dataclass(frozen=True)
class DatasetShare:
    """A dataset the user holds: its name and folder, split, and share of the samples, 0 to 1."""

    name: str
    folder: str
    share: float
    split: str = 'train'


@dataclass(frozen=True)
class StageConfig:
    """
    One stage of training.

    stores        files of rendered people (`hmr render`)
    photos        folder of background photographs, or None
    datasets      what else samples are drawn from; the stores get what its shares leave
    body          open_body, or your SMPL file for a network of datasets only
    size          crop side in pixels: 256, or 128 and 64 for cheap early stages
    batch, steps  samples a step and steps of the stage
    learning_rate peak of the one-cycle schedule
    read_weight   compact: of what is read from the maps, beside the maps; small at first
    early_weight  of the keypoint maps read from the middle of the backbone
    frozen_blocks leading blocks of the backbone that are not trained (with the stem when > 0)
    freeze_after  the step from which they are not
    fit_trunk     samples that shape, twist and camera are fitted to in the end, in closed form;
                  0 leaves them as they were trained
    start_from    weights of an earlier stage (.safetensors), or None
    precision     32-true, bf16-mixed or 16-mixed
    checkpoint_every steps between checkpoints to resume from
    seed          of the samples and of the initial weights
    backbone      mgfenet, resnet34 or hrnet_w48 of the paper, or the network compact
    tokens        96, or 29 for the joints-only ablation
    losses        own: Laplace likelihood and keypoint maps; sheet: the authors' objective;
                  pretraining: heat-maps of COCO's 17 keypoints, for the backbone only
    settled_after step from which `sheet` leaves out samples with a positive RLE
    recipe        augmentation values that differ from `Recipe`'s
    """

    stores: tuple[str, ...]
    photos: str | None = None
    datasets: tuple[DatasetShare, ...] = ()
    body: str = 'open_body'
    size: int = 256
    batch: int = 32
    steps: int = 1000
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    heatmap_weight: float = 1.0
    read_weight: float = 0.3
    early_weight: float = 0.0
    frozen_blocks: int = 0
    freeze_after: int = 0
    fit_trunk: int = 0
    start_from: str | None = None
    precision: str = '32-true'
    checkpoint_every: int = 200
    seed: int = 1
    backbone: str = 'mgfenet'
    tokens: int = 96
    losses: str = 'own'
    settled_after: int = 1000
    recipe: dict[str, float] = field(default_factory=dict)


#: what some keys may be.
CHOICES = {'backbone': ('mgfenet', 'resnet34', 'hrnet_w48', 'compact'), 'tokens': (96, 29),
           'losses': ('own', 'sheet', 'pretraining'), 'size': (64, 128, 256),
           'precision': ('32-true', 'bf16-mixed', '16-mixed')}


def read_config(path: str | Path) -> StageConfig:
    """Read a StageConfig; raises TrainingError that names an unknown, missing or wrong key."""
    content = read_table(path, StageConfig, 'stores')
    datasets = tuple(_dataset(row, path) for row in content.get('datasets', ()))
    config = StageConfig(**{**content, 'stores': tuple(content['stores']), 'datasets': datasets})
    check_choices(config, CHOICES, path)
    _check_sources(config, path)
    _check_network(config, path)
    return config


def _dataset(row: object, path: str | Path) -> DatasetShare:
    try:
        return DatasetShare(**row)
    except TypeError as error:
        raise TrainingError(
            f'training configuration {path} has the dataset {row}; expected name, folder, share '
            'and, if not train, split') from error


#: what the network compact has no parts for, by key: the only value it may have.
_COMPACT = {'tokens': 96, 'losses': 'own', 'early_weight': 0.0, 'frozen_blocks': 0, 'fit_trunk': 0}


def _check_network(config: StageConfig, path: str | Path) -> None:
    for key, only in _COMPACT.items():
        value = getattr(config, key)
        if config.backbone == 'compact' and value != only:
            raise TrainingError(
                f'{key} in training configuration {path} is {value}, but the network compact is '
                f'trained with {only}; leave it out')


def _check_sources(config: StageConfig, path: str | Path) -> None:
    total = sum(entry.share for entry in config.datasets)
    if any(entry.share <= 0 for entry in config.datasets) or total > 1 + 1e-6:
        raise TrainingError(
            f'training configuration {path} has shares of datasets that sum to {total}; expected '
            'positive shares and at most 1, the rest goes to the stores')
    if not config.stores and total < 1 - 1e-6:
        raise TrainingError(
            f'training configuration {path} has no stores, and its datasets\' shares sum to '
            f'{total}; expected 1')
    if config.stores and config.body != 'open_body':
        raise TrainingError(
            f'training configuration {path} mixes stores, which show the open body, with the body '
            f'{config.body}; give one or the other')
