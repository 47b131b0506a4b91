# SPDX-License-Identifier: Apache-2.0
"""What a training of the image network is made of; read from a YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hmr_ros.networks.rsc_net.backbone import BACKBONES
from hmr_ros.perception.rsc_net import ROWS
from hmr_ros.training.config_file import check_choices, read_table
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.rsc_net.schedule import at_once, progressive, Schedule


@dataclass(frozen=True)
class Method:
    """
    What sets a run of the paper's ablation apart.

    resolutions  versions of each crop, from the highest on
    own_rows     each resolution has its own row of alpha; else all have row 0, which stays 1
    supervised   lower resolutions learn from higher ones
    contrasted   their features too
    """

    resolutions: int = ROWS
    own_rows: bool = True
    supervised: bool = True
    contrasted: bool = True


#: the paper's names (tables 6 and 7); `plain` never sees a low resolution.
METHODS = {
    'plain': Method(1, False, False, False), 'Ba': Method(ROWS, False, False, False),
    'Ba+SS': Method(ROWS, False, True, False), 'RA': Method(ROWS, True, False, False),
    'RA+SS': Method(ROWS, True, True, False), 'RA+SS+CL': Method()}


@dataclass(frozen=True)
class RscConfig:
    """
    One training.

    stores        files of rendered people (`hmr render`)
    photos        folder of background photographs, or None
    method        a name of METHODS
    length        samples of the data, from which the schedule's steps follow; 0: no step
    progressive   a new resolution every epoch; False: all from the start, in as many steps
    backbone      resnet50, the published one, or compact
    size          crop side in pixels; 0: the backbone's own. Smaller crops train faster
    learning_rate of Adam; alpha_rate times as much for alpha, which has only 1 to start from
    start_from    weights of rsc_net to begin with, or None
    start_engine  compact: engine of the compact keypoint_guided whose backbone it begins as, None
    skeletons     compact: people without a picture that the regressor learns from first; 0: none
    skeleton_steps steps in which it does, 256 people each
    precision     32-true, bf16-mixed or 16-mixed
    seed          of the samples and of the weights
    recipe        augmentation values that differ from `Recipe`'s
    """

    stores: tuple[str, ...]
    photos: str | None = None
    method: str = 'RA+SS+CL'
    length: int = 6400
    progressive: bool = True
    backbone: str = 'resnet50'
    size: int = 0
    learning_rate: float = 5e-5
    alpha_rate: float = 10.0
    start_from: str | None = None
    start_engine: str | None = None
    skeletons: int = 0
    skeleton_steps: int = 2500
    precision: str = '32-true'
    seed: int = 1
    recipe: tuple[tuple[str, float], ...] = ()

    @property
    def kind(self) -> Method:
        """The method."""
        return METHODS[self.method]

    @property
    def crop_size(self) -> int:
        """Side of the crops in pixels."""
        return self.size or BACKBONES[self.backbone].image_size

    @property
    def schedule(self) -> Schedule:
        """When which resolutions are trained."""
        if self.progressive and self.kind.resolutions > 1:
            return progressive(self.length)
        return at_once(self.length, self.kind.resolutions)


def read_config(path: str | Path) -> RscConfig:
    """Read an RscConfig; raises TrainingError that names an unknown, missing or wrong key."""
    content = read_table(path, RscConfig, 'stores')
    content = {**content, 'stores': tuple(content['stores']),
               'recipe': tuple(dict(content.get('recipe') or {}).items())}
    config = RscConfig(**content)
    check_choices(config, {'method': tuple(METHODS), 'backbone': tuple(BACKBONES)}, path)
    for key in ('start_engine', 'skeletons'):
        if getattr(config, key) and (config.backbone != 'compact' or config.start_from):
            raise TrainingError(f'{key} in training configuration {path} is for the backbone '
                                'compact without start_from; leave one of them out')
    if config.size and (config.size % 32 or not 64 <= config.size <= 224):
        raise TrainingError(f'size in training configuration {path} is {config.size}; expected 64 '
                            'to 224 in steps of 32, or 0')
    return config
