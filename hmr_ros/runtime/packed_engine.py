# SPDX-License-Identifier: Apache-2.0
"""The packed backend: whole-body networks on bits, by the processor alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmr_ros.runtime.checks import check_feeds, check_tensors, read_network
from hmr_ros.runtime.engine import EngineError, TensorSpec
from hmr_ros.runtime.manifest import ManifestEntry, specs
from hmr_ros.runtime.packed_file import OUTPUTS, PackedFile, SUFFIX

if TYPE_CHECKING:
    from hmr_ros.runtime.packed_network import PackedWholeBody

#: what packed engines compute in; nothing else can be asked for.
PRECISION = 'binary'
#: people of the warm-up run, which also waits for numba to compile or load its code.
_WARM_UP_BATCH = 2


def open_engine(
        path: Path, entry: ManifestEntry | None, precision: str, threads: int,
        reason: str) -> PackedEngine:
    """
    Load a packed network.

    precision, threads, reason   as for `load_engine`

    Raises EngineError when the file is of another kind, damaged or changed, precision is not auto,
    or numba is missing.
    """
    if not path.name.endswith(SUFFIX):
        raise EngineError(
            f'the packed backend runs files *{SUFFIX}, and {path} is none; give one that `hmr '
            'export bidrn --backend packed` wrote, or use another backend')
    if precision != 'auto':
        raise EngineError(
            f'{path} holds weights of one bit, but precision is {precision}; use precision auto')
    content, sha256 = read_network(path, entry)
    file = PackedFile(content, path)
    return PackedEngine(_network(file, threads), file, sha256, entry, reason)


def _network(file: PackedFile, threads: int) -> PackedWholeBody:
    try:
        from hmr_ros.runtime.packed_layers import Workplace
        from hmr_ros.runtime.packed_network import PackedWholeBody
    except ImportError as error:
        raise EngineError(
            f'packed engines need numba, which cannot be imported ({error}); `pip install numba` '
            '(requirements/packed.txt), or use an ONNX engine') from error
    return PackedWholeBody(file, Workplace(threads))


class PackedEngine:
    """A packed network; see `hmr_ros.runtime.engine.Engine`."""

    backend = 'packed'
    precision = PRECISION
    on_processor = True

    def __init__(
            self, network: PackedWholeBody, file: PackedFile, sha256: str,
            entry: ManifestEntry | None = None, reason: str = '') -> None:
        """
        Check a network against its manifest entry and warm it up.

        Raises EngineError when it is not what the manifest lists.
        """
        self.name = entry.name if entry else file.path.name[:-len(SUFFIX)]
        self.entry, self.sha256, self.reason = entry, sha256, reason
        self.inputs = specs({'image': (-1, 3, *network.image)})
        self.outputs: tuple[TensorSpec, ...] = specs(
            {name: (-1, *shape) for name, shape in OUTPUTS.items()})
        self._network: PackedWholeBody | None = network
        if entry is not None:
            check_tensors(self.inputs, self.outputs, entry, file.path)
        self.run({spec.name: np.zeros(spec.shape_for(_WARM_UP_BATCH), spec.dtype)
                  for spec in self.inputs})

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch; see `hmr_ros.runtime.engine.Engine.run`."""
        if self._network is None:
            raise EngineError(f'engine {self.name!r} was closed; load it again')
        check_feeds(self.name, self.inputs, feeds)
        return self._network(feeds['image'])

    def close(self) -> None:
        """Free the network, and end its threads."""
        if self._network is not None:
            self._network.close()
            self._network = None
