# SPDX-License-Identifier: Apache-2.0
"""What nodes that run engines share: opening them as the parameters say, and closing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hmr_ros.nodes.lifecycle import ManagedNode
from hmr_ros.runtime import Engine, load_engine


class EngineNode(ManagedNode):
    """
    A node with the parameters `backend` and `precision` that keeps what engines it opened.

    `open_engine(name_or_path, backend, precision)` is replaced in tests. `load` begins with
    `unload`, for what a configure that failed has left.
    """

    def __init__(
            self, open_engine: Callable[[str, str, str], Engine] = load_engine,
            **node_arguments: Any) -> None:
        """Declare parameters. Raises NodeError when one of them is not allowed."""
        super().__init__(**node_arguments)
        self._open_engine = open_engine
        self._engines: list[Engine] = []

    def open_engine(self, name: str) -> Engine:
        """Open an engine; it is closed by `unload`."""
        engine = self._open_engine(
            name, self.parameters['backend'], self.parameters['precision'])
        self._engines.append(engine)
        return engine

    def unload(self) -> None:
        """Free the engines."""
        for engine in self._engines:
            engine.close()
        self._engines = []
