# SPDX-License-Identifier: Apache-2.0
"""A network run by torch, as an engine."""

from __future__ import annotations

from collections.abc import Mapping
import threading

import numpy as np

from hmr_ros.runtime.checks import check_feeds, check_free_axes, check_tensors, measured
from hmr_ros.runtime.engine import EngineError
from hmr_ros.runtime.manifest import ManifestEntry, most_of
from hmr_ros.runtime.torch_network import TorchNetwork
from hmr_ros.runtime.torch_runners import Runner


class TorchEngine:
    """A network run by torch; see `hmr_ros.runtime.engine.Engine`."""

    backend = 'torch'

    def __init__(
            self, network: TorchNetwork, runner: Runner, sha256: str, precision: str,
            entry: ManifestEntry | None = None, reason: str = '') -> None:
        """
        Check a network against its manifest entry and warm it up.

        runner     what runs `network`
        sha256     of the ONNX file, whatever was made of it
        precision  what it computes in
        reason     why this backend was chosen

        Raises EngineError when it cannot be run, or it is not what the manifest lists.
        """
        self.name = entry.name if entry else network.path.stem
        self.entry, self.sha256, self.precision = entry, sha256, precision
        self.inputs, self.outputs = network.inputs, network.outputs
        self._reason = reason
        self.on_processor = network.device.type == 'cpu'
        self._runner: Runner | None = runner
        try:
            check_free_axes(self.inputs, network.path)
            for batch in sorted({most_of(entry, batch) for batch in runner.warm_up}):
                results = self.run({
                    spec.name: np.zeros(spec.shape_for(batch), spec.dtype)
                    for spec in self.inputs})
            self.outputs = tuple(
                measured(spec, results[spec.name].shape) for spec in self.outputs)
            if entry is not None:
                check_tensors(self.inputs, self.outputs, entry, network.path)
        except BaseException:
            self.close()
            raise

    @property
    def reason(self) -> str:
        """Why this backend was chosen, and what could not be had."""
        return self._reason + (self._runner.note if self._runner is not None else '')

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """
        Run one batch; see `hmr_ros.runtime.engine.Engine.run`.

        Raises EngineError also on a GPU when called from another thread than the one that loaded
        it.
        """
        if self._runner is None:
            raise EngineError(f'engine {self.name!r} was closed; load it again')
        if self._runner.thread not in (None, threading.get_ident()):
            raise EngineError(
                f'engine {self.name!r} was loaded by another thread, which alone may run it; load '
                'one in each thread')
        batch = check_feeds(self.name, self.inputs, feeds)
        try:
            return self._runner.run(feeds, batch)
        except EngineError:
            raise
        except Exception as error:  # torch raises whatever its operators please
            raise EngineError(
                f'engine {self.name!r} failed on inputs '
                f'{ {name: array.shape for name, array in feeds.items()} }: {error}') from error

    def close(self) -> None:
        """Free the network."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
