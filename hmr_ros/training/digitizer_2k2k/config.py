# SPDX-License-Identifier: Apache-2.0
"""What a training of the digitizer is made of; read from a YAML file (sheet, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hmr_ros.networks.digitizer_2k2k import NARROW, Variant
from hmr_ros.perception.digitizer.frame import LOW
from hmr_ros.training.config_file import check_choices, check_least, read_table, wrong
from hmr_ros.training.errors import TrainingError

_LOW = ('low_normals', 'low_depth')
#: what each phase trains, by the names of Digitizer.
PHASES: dict[str, tuple[str, ...]] = {
    'low': _LOW, 'parts': ('parts',), 'phase1': (*_LOW, 'parts'), 'high': ('high_depth',)}
CHOICES: dict[str, tuple[str, ...]] = {
    'phase': tuple(PHASES), 'schedule': ('warm_restarts', 'one_cycle'),
    # Float16 would need gradients to be scaled, and unscaled before they are clipped.
    'precision': ('32-true', 'bf16-mixed'),
    'parts_begin': ('start_from', 'low_normals'), 'depth_from': ('truth', 'network'),
    'normals_from': ('truth', 'networks')}


@dataclass(frozen=True)
class DigitizerConfig:
    """
    One training.

    stores         files of scans (`hmr render --layout scans`)
    photos         folder of background photographs, or None
    phase          low, parts, phase1 (both of them) or high, which is the published second phase;
                   networks of other phases stay as `start_from` has them
    resolution, width  of the Variant
    batch, steps   images a step; steps
    learning_rate  of Adam
    schedule       warm_restarts: down a cosine every `cycle` steps, each from half as high;
                   one_cycle: up for a tenth of the steps, then down to nothing, for short runs
    cycle          steps; published are those of five epochs
    clip           largest norm of the gradient
    body_weight    of mean |error| of D and of normals over the body alone, of both sides added; 0
                   as published. Bodies are a tenth of the pixels, which the published terms count
                   alike: networks that begin with nothing learn the background first, and normals
                   of 0 everywhere
    background_weight  of errors of D where nobody is, 1 as published. Nothing reads the low
                   network's D there, for its mask empties it
    black          share of people who are cut out, before a black background
    depth_from     what the phase high refines: the low network's depth, or the true one with
                   errors, so that it can be trained before the low network is
    normals_from   by what: the part networks' blended normals, or the true ones with errors
    window         columns of the image around the body that the phase high looks at, a multiple of
                   8 pixels; 0 for all. It is convolutions alone, and what is left out is empty
    start_from     weights file whose fitting tensors to begin with, or None
    parts_begin    start_from: as that says; low_normals: all as the trained network of low normals,
                   which does the same for an image eight times smaller
    precision      32-true or bf16-mixed; losses and last layers are always float32
    seed           of the samples and of the weights
    checkpoint_every  steps between checkpoints
    """

    stores: tuple[str, ...]
    photos: str | None = None
    phase: str = 'phase1'
    resolution: int = NARROW.resolution
    width: float = NARROW.width
    batch: int = 2
    steps: int = 20000
    learning_rate: float = 1e-4
    schedule: str = 'warm_restarts'
    cycle: int = 5000
    clip: float = 5.0
    body_weight: float = 0.0
    background_weight: float = 1.0
    black: float = 0.1
    depth_from: str = 'network'
    normals_from: str = 'networks'
    window: int = 0
    start_from: str | None = None
    parts_begin: str = 'start_from'
    precision: str = '32-true'
    seed: int = 1
    checkpoint_every: int = 500

    @property
    def variant(self) -> Variant:
        """The networks; ValueError when there are none such."""
        return Variant(self.resolution, self.width)


def read_config(path: str | Path) -> DigitizerConfig:
    """Read a DigitizerConfig; raises TrainingError that names an unknown, missing or wrong key."""
    content = read_table(path, DigitizerConfig, 'stores')
    config = DigitizerConfig(**{**content, 'stores': tuple(content['stores'])})
    check_choices(config, CHOICES, path)
    check_least(config, {'batch': 1, 'steps': 1, 'cycle': 1, 'checkpoint_every': 1,
                         'body_weight': 0, 'background_weight': 0, 'black': 0, 'window': 0}, path)
    if config.window % LOW or config.window > config.resolution:
        raise wrong(config, 'window', f'multiples of {LOW} up to {config.resolution}', path)
    try:
        config.variant
    except ValueError as error:
        raise TrainingError(f'training configuration {path}: {error}') from error
    return config
