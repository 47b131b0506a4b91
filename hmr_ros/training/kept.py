# SPDX-License-Identifier: Apache-2.0
"""Arrays that took long to make, kept in a file with what they were made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hmr_ros.training.errors import TrainingError

Arrays = TypeVar('Arrays')


def kept_or_made(
        path: str | None, kind: type[Arrays], origin: Mapping[str, Any],
        make: Callable[[], Arrays]) -> Arrays:
    """
    Return a dataclass of arrays from its file, or make it and write the file.

    path    None: nothing is kept
    origin  what the arrays depend on, by the names that the configuration has for it

    Raises TrainingError when the file cannot be read or is of another origin.
    """
    file, words = Path(path) if path else None, json.dumps(dict(origin))
    if file is not None and file.is_file():
        return _read(file, kind, words)
    arrays = make()
    if file is not None:
        _write(arrays, file, words)
    return arrays


def _write(arrays: Any, path: Path, origin: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + '.part')
    with unfinished.open('wb') as file:
        np.savez(file, origin=origin, **{f.name: getattr(arrays, f.name) for f in fields(arrays)})
    unfinished.replace(path)


def _read(path: Path, kind: type[Arrays], origin: str) -> Arrays:
    name = kind.__name__.lower()
    try:
        with np.load(path) as file:
            theirs = str(file['origin'])
            arrays = {f.name: file[f.name] for f in fields(kind)}
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f'{name} {path} cannot be read: {error}') from error
    if theirs != origin:
        raise TrainingError(
            f'{name} {path} were made from {theirs}, but this configuration says {origin}; name '
            'another file as keep')
    return kind(**arrays)
