# SPDX-License-Identifier: Apache-2.0
"""Training configurations: YAML files whose keys are the fields of a dataclass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from hmr_ros.training.errors import TrainingError


def read_table(path: str | Path, kind: type, required: str) -> dict[str, Any]:
    """
    Read the values of a configuration of the dataclass `kind`; its key `required` must be there.

    Raises TrainingError when the file cannot be read or has other keys.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise TrainingError(f'training configuration {path} cannot be read: {error}') from error
    known = {entry.name for entry in fields(kind)}
    if not isinstance(content, dict) or required not in content or set(content) - known:
        raise TrainingError(
            f'training configuration {path} must name {required} and may name '
            f'{", ".join(sorted(known - {required}))}; it holds {content}')
    return content


def check_choices(
        config: Any, choices: Mapping[str, Sequence[Any]], path: str | Path) -> None:
    """Raise TrainingError when a value is not one of its key's `choices`."""
    for key, allowed in choices.items():
        if getattr(config, key) not in allowed:
            raise wrong(config, key, ', '.join(map(str, allowed)), path)


def check_least(config: Any, least: Mapping[str, float], path: str | Path) -> None:
    """Raise TrainingError when a value is smaller than its key's `least`."""
    for key, smallest in least.items():
        if getattr(config, key) < smallest:
            raise wrong(config, key, f'{smallest} or more', path)


def wrong(config: Any, key: str, allowed: str, path: str | Path) -> TrainingError:
    """Return the error of a value that is not `allowed`."""
    return TrainingError(f'{key} in training configuration {path} is {getattr(config, key)!r}; '
                         f'allowed: {allowed}')
