# SPDX-License-Identifier: Apache-2.0
"""Opens the seven engines of the digitizer together."""

from __future__ import annotations

from collections.abc import Callable

from hmr_ros.runtime import BuildOptions, Engine, load_engine

#: last parts of their names.
DIGITIZER_ENGINES = ('low', 'head', 'torso', 'arm', 'leg', 'foot', 'refine')


def open_digitizer(
        name: str = 'digitizer_2k2k', backend: str = 'auto', precision: str = 'auto',
        threads: int = 1, build: BuildOptions = BuildOptions(),
        open_engine: Callable[..., Engine] = load_engine) -> dict[str, Engine]:
    """
    Load the engines `name`_low, `name`_head and so on, by the names of DIGITIZER_ENGINES.

    name         without the last part: in the manifest, or of files, folder/name
    open_engine  has the arguments of `load_engine`, of which the others are

    Raises EngineError when one of them cannot be had; the others are closed then.
    """
    opened: dict[str, Engine] = {}
    try:
        for part in DIGITIZER_ENGINES:
            opened[part] = open_engine(_name_of(name, part), backend, precision, threads, build)
    except BaseException:
        for engine in opened.values():
            engine.close()
        raise
    return opened


def _name_of(name: str, part: str) -> str:
    return f'{name}_{part}.onnx' if '/' in name else f'{name}_{part}'
