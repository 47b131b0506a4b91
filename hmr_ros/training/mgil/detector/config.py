# SPDX-License-Identifier: Apache-2.0
"""What a training of the person detector is made of; read from a YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hmr_ros.networks.mgil import NAMED
from hmr_ros.networks.mgil.detector import DetectorVariant
from hmr_ros.training.config_file import check_choices, check_least, read_table, wrong
from hmr_ros.training.errors import TrainingError


@dataclass(frozen=True)
class DetectorConfig:
    """
    One training.

    stores         files of rendered people (`hmr render`)
    photos         folder of photographs without people, or None
    backgrounds    places to draw beside them
    width          of the network, as a multiple of YOLOv5n's
    downsampling   strided, spd, flie, mgil, control and others of `NAMED`
    size           side of the windows that the network trains on in pixels, a multiple of 32
    batch, steps   windows a step, at least 2 for batch norm; steps
    learning_rate  of AdamW, highest of one cycle;  weight_decay: of kernels
    scenes         scenes composed once; every sample is a new window of one of them
    scene_size     their side in pixels
    keep           file that keeps the scenes for the next run with the same ones, or None
    smallest, largest  pixels that a person in the middle of a scene is tall
    zoom           windows show scenes up to this much larger, and as much smaller
    start_from     weights of a detector to begin with, or None
    precision      32-true, bf16-mixed or 16-mixed
    seed           of the samples and of the weights
    checkpoint_every steps between checkpoints
    recipe         chances and strengths of what sensors do, which differ from `data.SENSOR`'s
    """

    stores: tuple[str, ...]
    photos: str | None = None
    backgrounds: int = 200
    width: float = 0.5
    downsampling: str = 'mgil'
    size: int = 192
    batch: int = 16
    steps: int = 9000
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    scenes: int = 6000
    scene_size: int = 320
    keep: str | None = None
    smallest: float = 24
    largest: float = 240
    zoom: float = 1.6
    start_from: str | None = None
    precision: str = '32-true'
    seed: int = 1
    checkpoint_every: int = 500
    recipe: tuple[tuple[str, float], ...] = ()

    @property
    def variant(self) -> DetectorVariant:
        """The network."""
        return DetectorVariant(self.width, NAMED[self.downsampling])


def read_config(path: str | Path) -> DetectorConfig:
    """Read a DetectorConfig; raises TrainingError that names an unknown, missing or wrong key."""
    content = read_table(path, DetectorConfig, 'stores')
    config = DetectorConfig(**{**content, 'stores': tuple(content['stores']),
                               'recipe': tuple(dict(content.get('recipe') or {}).items())})
    check_choices(config, {'downsampling': tuple(NAMED)}, path)
    if config.size % 32 or config.size < 32:
        raise wrong(config, 'size', 'a multiple of 32', path)
    check_least(config, {'batch': 2, 'steps': 1, 'scenes': 1, 'backgrounds': 1, 'scene_size': 64,
                         'smallest': 8, 'zoom': 1, 'largest': config.smallest}, path)
    try:
        config.variant
    except ValueError as error:
        raise TrainingError(f'training configuration {path}: {error}') from error
    return config
