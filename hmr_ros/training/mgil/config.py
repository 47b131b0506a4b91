# SPDX-License-Identifier: Apache-2.0
"""What a training of a pose network is made of; read from a YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hmr_ros.networks.mgil import Downsampling, NAMED, PoseVariant, square
from hmr_ros.training.config_file import check_choices, check_least, read_table, wrong
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.mgil.losses import FORMS

CHOICES: dict[str, tuple[str, ...]] = {
    'downsampling': tuple(NAMED), 'labels': ('smoothing', 'gaussian'), 'loss': tuple(FORMS),
    'schedule': ('steps', 'one_cycle'), 'head': ('random', 'marginals'),
    'warm_start': ('fresh', 'embedded', 'taken_over')}
#: pictures of people are this much larger than the longer side of their box, so that crops may
#: turn and grow before they meet an edge.
WIDE = 2.0


@dataclass(frozen=True)
class PoseConfig:
    """
    One training.

    stores         files of rendered people (`hmr render`)
    photos         folder of background photographs, or None
    backbone       pyramid, tiny, small, medium, w32, w48, resnet50 or resnet50_upsample_free
    downsampling   strided, spd, flie, mgil, control and others of `NAMED`
    size           crop side in pixels, a multiple of 32
    split_ratio    bins per pixel; 0: the published one, 3 below 128 pixels, else 2
    head           random; marginals: begins as sums over the map's columns and rows, see
                   `read_marginals`
    batch, steps   samples a step, at least 2 for batch norm; steps
    learning_rate  of Adam
    schedule       steps: a tenth after 17/21 of the steps and again after 20/21, as published;
                   one_cycle: up for a tenth of them, then down to nothing, for short runs
    labels         smoothing or gaussian
    smoothing      of the labels;  sigma: of gaussian ones, bins
    loss           sum or mean, see `losses.FORMS`
    pictures       people put before a background once; every sample is a new crop of one of them
    keep           file that keeps the pictures for the next run with the same ones, or None
    smallest, largest  pixels of the longer side of people's boxes in their pictures
    zoom, turn_deg spreads of the crop's scale and turn;  half_body: chance of a crop around either
                   half of a body
    start_from     weights of mgil or a checkpoint whose fitting tensors to begin with, or None
    start_engine   engine of the compact keypoint_guided that the backbone pyramid begins as; or
                   None
    warm_start     what layers that took the place of strided ones of `start_from` begin with.
                   fresh: drawn, as published; embedded: their kernels; taken_over: all that is
                   needed to do what they did, see `take_over`, as always with `start_engine`
    precision      32-true, bf16-mixed or 16-mixed
    seed           of the samples and of the weights
    checkpoint_every steps between checkpoints
    recipe         augmentation values that differ from `Recipe`'s; turns and zoom are the crop's
    """

    stores: tuple[str, ...]
    photos: str | None = None
    backbone: str = 'small'
    downsampling: str = 'mgil'
    size: int = 64
    split_ratio: float = 0
    head: str = 'random'
    batch: int = 64
    steps: int = 20000
    learning_rate: float = 1e-3
    schedule: str = 'one_cycle'
    labels: str = 'smoothing'
    smoothing: float = 0.1
    sigma: float = 4.0
    loss: str = 'sum'
    pictures: int = 8192
    keep: str | None = None
    smallest: int = 16
    largest: int = 96
    zoom: float = 0.35
    turn_deg: float = 45.0
    half_body: float = 0.3
    start_from: str | None = None
    start_engine: str | None = None
    warm_start: str = 'fresh'
    precision: str = '32-true'
    seed: int = 1
    checkpoint_every: int = 500
    recipe: tuple[tuple[str, float], ...] = ()

    @property
    def variant(self) -> PoseVariant:
        """The network."""
        downsampling: Downsampling = NAMED[self.downsampling]
        published = square(self.backbone, downsampling, self.size)
        if not self.split_ratio:
            return published
        return PoseVariant(self.backbone, downsampling, self.size, self.size, self.split_ratio)

    @property
    def side(self) -> int:
        """Side of the pictures in pixels."""
        return round(WIDE * self.largest)


def read_config(path: str | Path) -> PoseConfig:
    """Read a PoseConfig; raises TrainingError that names an unknown, missing or wrong key."""
    content = read_table(path, PoseConfig, 'stores')
    config = PoseConfig(**{**content, 'stores': tuple(content['stores']),
                           'recipe': tuple(dict(content.get('recipe') or {}).items())})
    check_choices(config, CHOICES, path)
    check_least(config, {'batch': 2, 'steps': 1, 'pictures': 1, 'smallest': 8,
                         'largest': config.smallest}, path)
    if config.start_engine and config.backbone != 'pyramid':
        raise wrong(config, 'backbone', 'pyramid, for start_engine is set', path)
    try:
        config.variant
    except ValueError as error:
        raise TrainingError(f'training configuration {path}: {error}') from error
    return config
