# SPDX-License-Identifier: Apache-2.0
"""What every engine offers, whatever backend runs it."""

from __future__ import annotations

from dataclasses import dataclass
import functools
from typing import Mapping, Protocol, runtime_checkable

import numpy as np


class EngineError(RuntimeError):
    """
    An engine cannot be loaded or run.

    The message names the file or tensor, what was expected, and what to do.
    """


@dataclass(frozen=True)
class TensorSpec:
    """One named input or output; `shape` has -1 where the batch size goes."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    # Asked for in every call of an engine, so both are worked out once.
    @functools.cached_property
    def batch_axis(self) -> int | None:
        """Axis of the batch, the first that is free; None when none is."""
        return self.shape.index(-1) if -1 in self.shape else None

    @functools.cached_property
    def numpy_dtype(self) -> np.dtype:
        """`dtype` as arrays have it."""
        return np.dtype(self.dtype)

    @functools.cached_property
    def _around_batch(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.shape[:self.batch_axis], self.shape[self.batch_axis + 1:]

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of `shape` fits: any batch of at least 1, all else as it is."""
        axis = self.batch_axis
        if axis is None or len(shape) != len(self.shape):
            return shape == self.shape
        before, after = self._around_batch
        return shape[axis] > 0 and shape[:axis] == before and shape[axis + 1:] == after

    def shape_for(self, batch: int) -> tuple[int, ...]:
        """Return the shape with `batch` where the batch size goes."""
        return tuple(batch if size == -1 else size for size in self.shape)


@runtime_checkable
class Engine(Protocol):
    """
    A loaded network. It owns its buffers; `run` may be called from one thread only.

    `sha256` is that of the engine file, whatever was built from it; `reason` says why this backend
    was chosen; `on_processor` tells that no GPU runs it.
    """

    name: str
    backend: str
    precision: str
    sha256: str
    reason: str
    on_processor: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """
        Run one batch; `feeds` maps every input name to its array.

        Raises EngineError when an array is missing, misshapen, of another dtype or not finite.
        """
        ...

    def close(self) -> None:
        """Free the engine's memory; running it afterwards is an EngineError."""
        ...
