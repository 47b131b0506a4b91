# SPDX-License-Identifier: Apache-2.0
"""What one training stage is made of; read from a YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import yaml

from hmr_ros.training.errors import TrainingError


@dataclass(frozen=True)
class StageConfig:
    """
    One stage of training.

    stores        files of rendered people (`hmr render`)
    photos        folder of background photographs, or None
    size          crop side in pixels: 256, or 128 and 64 for cheap early stages
    batch, steps  samples a step and steps of the stage
    learning_rate peak of the one-cycle schedule
    frozen_blocks leading blocks of the backbone that are not trained (with the stem when > 0)
    start_from    weights of an earlier stage (.safetensors), or None
    seed          of the samples and of the initial weights
    recipe        augmentation values that differ from `Recipe`'s
    """

    stores: tuple[str, ...]
    photos: str | None = None
    size: int = 256
    batch: int = 32
    steps: int = 1000
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    heatmap_weight: float = 1.0
    frozen_blocks: int = 0
    start_from: str | None = None
    seed: int = 1
    recipe: dict[str, float] = field(default_factory=dict)


def read_config(path: str | Path) -> StageConfig:
    """Read a StageConfig; raises TrainingError that names an unknown or missing key."""
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise TrainingError(f'training configuration {path} cannot be read: {error}') from error
    known = {entry.name for entry in fields(StageConfig)}
    if not isinstance(content, dict) or 'stores' not in content or set(content) - known:
        raise TrainingError(
            f'training configuration {path} must name stores and may name '
            f'{", ".join(sorted(known - {"stores"}))}; it holds {content}')
    return StageConfig(**{**content, 'stores': tuple(content['stores'])})
