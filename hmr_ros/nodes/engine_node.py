# SPDX-License-Identifier: Apache-2.0
"""What nodes that run engines share: opening them as the parameters say, and closing them."""

from __future__ import annotations

from collections.abc import Callable
import os
import time
from typing import Any

from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import ManagedNode
from hmr_ros.runtime import (
    BuildOptions, BuildWatch, Engine, EngineError, load_fastest, resolve_engine)

# The shipped networks are small, and more cores were not measured.
_MOST_THREADS = 4
_PROGRESS_EVERY_S = 1.0

OpenEngine = Callable[[str, str, str, int, BuildOptions], Engine]


def threads_for(parameter: int) -> int:
    """Return cores for one call: `parameter`, or half of this process's where it is 0."""
    # The other half is for detection, which runs at the same time.
    return parameter or max(1, min(len(os.sched_getaffinity(0)) // 2, _MOST_THREADS))


class EngineNode(ManagedNode):
    """
    A node with the parameters of BACKEND that keeps what engines it opened.

    `open_engine` has the arguments of `load_fastest` and is replaced in tests. `load` begins with
    `unload`, for what a configure that failed has left. An engine is built in configure only.
    """

    def __init__(
            self, open_engine: OpenEngine = load_fastest, **node_arguments: Any) -> None:
        """Declare parameters. Raises NodeError when one of them is not allowed."""
        super().__init__(**node_arguments)
        self._open_engine = open_engine
        self._engines: list[Engine] = []
        self._destroyed = False
        self._told_progress_s = 0.0

    def open_engine(
            self, name: str, max_batch: int, threads: int = 1, how_to_get_one: str = '') -> Engine:
        """
        Open an engine for at most `max_batch` people; it is closed by `unload`.

        threads         processor cores of one call, where it runs on the processor
        how_to_get_one  what to tell when the manifest has no engine of that name

        Where it must be built first, a warning says so, and diagnostics show how far it is.
        """
        options = BuildOptions(
            max_batch, self.parameters['allow_engine_build'],
            watch=BuildWatch(self._announce_build, self._note_progress))
        try:
            engine = self._open_engine(
                name, self.parameters['backend'], self.parameters['precision'], threads, options)
        except EngineError as error:
            if not how_to_get_one or _is_known(name):
                raise
            raise NodeError(f'{error}. {how_to_get_one}') from error
        finally:
            self.diagnostics.facts.pop('engine_build', None)
        self._engines.append(engine)
        self.diagnostics.facts[f'backend of {engine.name}'] = f'{engine.backend}: {engine.reason}'
        self.get_logger().info(
            f'engine {engine.name} on {engine.backend} ({engine.precision}): {engine.reason}')
        return engine

    def show_engine(self, engine: Engine) -> None:
        """Show in diagnostics which engine this node works with."""
        self.diagnostics.facts.update(
            engine=engine.name, backend=engine.backend, precision=engine.precision,
            engine_sha256=engine.sha256)

    def unload(self) -> None:
        """Free the engines."""
        for engine in self._engines:
            engine.close()
        self._engines = []

    def destroy_node(self) -> None:
        """Stop a build that may be going on, then everything else."""
        self._destroyed = True
        super().destroy_node()

    def _announce_build(self, line: str) -> None:
        self.get_logger().warning(line)
        self._show_build(line)

    def _note_progress(self, phase: str, done: int, steps: int) -> None:
        if self._destroyed:
            raise NodeError('the node ends, so its engine is not built any further')
        now = time.monotonic()
        if now - self._told_progress_s > _PROGRESS_EVERY_S:
            self._told_progress_s = now
            self._show_build(f'{phase}: {done} of {steps}')

    def _show_build(self, text: str) -> None:
        # Configure keeps the timer from publishing.
        self.diagnostics.facts['engine_build'] = text
        self.publish_diagnostics()


def _is_known(name: str) -> bool:
    """Tell whether the manifest has an engine of that name; paths are known."""
    try:
        resolve_engine(name)
    except EngineError:
        return False
    return True
