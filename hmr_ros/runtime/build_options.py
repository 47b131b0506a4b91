# SPDX-License-Identifier: Apache-2.0
"""How an engine for one GPU is built, and who watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hmr_ros.runtime.engine import EngineError

#: exact: this GPU and this TensorRT only; version: newer TensorRT of the same major version too;
#: hardware: all GPUs from Ampere on (not on Jetson).
COMPATIBILITIES = ('exact', 'version', 'hardware')
#: people of a frame in `mesh_recovery`, parameter max_people.
DEFAULT_MAX_BATCH = 32


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True)
class BuildWatch:
    """
    Who is told about a build, which takes minutes.

    announce  gets a line about each thing that happens
    progress  gets phase, steps done and all steps, from any thread; an exception stops the build
    """

    announce: Callable[[str], None] = _ignore
    progress: Callable[[str, int, int], None] = _ignore


@dataclass(frozen=True)
class BuildOptions:
    """
    What only engines that are built for a GPU need to know; other backends do not look at it.

    max_batch           most people of one call
    allow_engine_build  build what is not in the cache, which takes minutes; else it is an error
    compatibility       one of COMPATIBILITIES
    workspace_mb        megabytes that the builder and the engine may take for intermediate results
    watch               who is told about a build
    """

    max_batch: int = DEFAULT_MAX_BATCH
    allow_engine_build: bool = False
    compatibility: str = 'exact'
    workspace_mb: int = 1024
    watch: BuildWatch = BuildWatch()

    def __post_init__(self) -> None:
        for name in ('max_batch', 'workspace_mb'):
            if getattr(self, name) < 1:
                raise EngineError(f'{name} is {getattr(self, name)}; expected 1 or more')
        if self.compatibility not in COMPATIBILITIES:
            raise EngineError(
                f'compatibility is {self.compatibility!r}; expected one of '
                f'{", ".join(COMPATIBILITIES)}')
