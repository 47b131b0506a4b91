# SPDX-License-Identifier: Apache-2.0
"""What a training of the whole-body network is made of; read from a YAML file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hmr_ros.networks.bidrn import compact, NAMED, Variant
from hmr_ros.networks.bidrn.layout import PLANS
from hmr_ros.training.config_file import check_choices, check_least, read_table, wrong

CHOICES: dict[str, tuple[str, ...]] = {
    'row': tuple(NAMED), 'plan': tuple(PLANS), 'schedule': ('steps', 'one_cycle'),
    'init': ('published', 'kaiming'), 'precision': ('32-true', 'bf16-mixed', '16-mixed')}


@dataclass(frozen=True)
class WholeBodyConfig:
    """
    One training.

    stores         files of rendered whole-body people
    photos         folder of background photographs, or None
    row            network, of NAMED: bidrn, hand4whole, bnn and the other rows of the tables
    plan           sizes: compact or published
    batch, steps   samples a step, at least 2 for batch norm; steps
    learning_rate  of Adam
    schedule       steps: a tenth after 8/14 of the steps and again after 12/14, as published;
                   one_cycle: up for a tenth of them, then down to nothing, for short runs
    init           of binary weights. published: tiny, as all of Hand4Whole's; kaiming: of a size
                   that outputs, too, have
    start_from     weights of bidrn, imported ones of Hand4Whole among them, whose fitting tensors
                   to begin with; or None
    start_engine   compact plan: engine of the compact keypoint_guided whose trunk the encoders of
                   body, hands and face begin as; or None
    latent_spread  size of the largest of the binary weights that came from a network of floats,
                   see `beginning.spread_latents`; 0: as they come
    precision      32-true, bf16-mixed or 16-mixed
    seed           of the samples and of the weights
    checkpoint_every steps between checkpoints
    recipe         augmentation values that differ from `Recipe`'s
    """

    stores: tuple[str, ...]
    photos: str | None = None
    row: str = 'bidrn'
    plan: str = 'compact'
    batch: int = 24
    steps: int = 20000
    learning_rate: float = 1e-4
    schedule: str = 'steps'
    init: str = 'published'
    start_from: str | None = None
    start_engine: str | None = None
    latent_spread: float = 0.0
    precision: str = '32-true'
    seed: int = 1
    checkpoint_every: int = 500
    recipe: tuple[tuple[str, float], ...] = ()

    @property
    def variant(self) -> Variant:
        """The network."""
        return compact(self.row) if self.plan == 'compact' else replace(
            NAMED[self.row], plan=self.plan)


def read_config(path: str | Path) -> WholeBodyConfig:
    """Read a WholeBodyConfig; TrainingError that names an unknown, missing or wrong key."""
    content = read_table(path, WholeBodyConfig, 'stores')
    config = WholeBodyConfig(**{**content, 'stores': tuple(content['stores']),
                                'recipe': tuple(dict(content.get('recipe') or {}).items())})
    check_choices(config, CHOICES, path)
    check_least(config, {'batch': 2, 'steps': 1, 'latent_spread': 0}, path)
    if config.start_engine and config.plan != 'compact':
        raise wrong(config, 'plan', 'compact, for start_engine is set', path)
    return config
