# SPDX-License-Identifier: Apache-2.0
"""What the training of a temporal network is made of; read from a YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hmr_ros.training.config_file import read_table
from hmr_ros.training.errors import TrainingError


@dataclass(frozen=True)
class TemporalConfig:
    """
    One training of the GRU (sheet 3.6; the weights of the terms are the sheet's).

    films         files of filmed people (`hmr render --frames`), `frames` frames each
    engine        image engine whose features are smoothed
    network       body_filter, or rsc_temporal, which knows nothing but the feature
    hidden        width of the GRU layers
    passes        how often each film is seen, under other conditions
    window        frames of a sample
    dropped       highest share of frames that a track misses
    batch, steps, learning_rate   of the generator; the schedule is one cycle
    joints3d, joints2d, pose, betas, acceleration, adversarial   weights of the terms; joints2d
                  needs a network with a camera, adversarial a discriminator, 0 leaves it out
    seed          of the weights and of the samples
    """

    films: tuple[str, ...]
    engine: str = 'keypoint_guided'
    network: str = 'body_filter'
    frames: int = 40
    hidden: int = 256
    passes: int = 1
    window: int = 32
    dropped: float = 0.2
    batch: int = 32
    steps: int = 2000
    learning_rate: float = 1e-3
    joints3d: float = 300.0
    joints2d: float = 0.0
    pose: float = 60.0
    betas: float = 0.06
    acceleration: float = 0.0
    adversarial: float = 0.5
    seed: int = 1


NETWORKS = ('body_filter', 'rsc_temporal')


def read_config(path: str | Path) -> TemporalConfig:
    """Read a TemporalConfig; raises TrainingError that names an unknown, missing or wrong key."""
    content = read_table(path, TemporalConfig, 'films')
    config = TemporalConfig(**{**content, 'films': tuple(content['films'])})
    _check(config, path)
    return config


def _check(config: TemporalConfig, path: str | Path) -> None:
    if config.network not in NETWORKS:
        raise TrainingError(
            f'network in training configuration {path} is {config.network!r}; allowed: '
            f'{", ".join(NETWORKS)}')
    if not 3 <= config.window <= config.frames:
        raise TrainingError(
            f'window in training configuration {path} is {config.window}; expected 3 or more and '
            f'at most the {config.frames} frames of a film')
    if config.network == 'body_filter' and config.joints2d:
        raise TrainingError(
            f'joints2d in training configuration {path} is {config.joints2d}, but body_filter '
            'has no camera; leave it out')
