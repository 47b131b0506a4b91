# SPDX-License-Identifier: Apache-2.0
"""How fast the shipped engines are on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
import time
from typing import Any

import numpy as np

from hmr_ros.runtime import Engine, load_engine, TensorSpec
from hmr_ros.runtime.checks import choose_precision
from hmr_ros.runtime.manifest import (
    engines_folder, file_sha256, ManifestEntry, read_manifest, specs)
from hmr_ros.runtime.onnx_engine import open_session

#: makes another engine like that of an entry, for a number of threads, to compare with; or None.
Contender = Callable[[ManifestEntry, int], Engine | None]
_LEAST_RUNS = 5


class BareSession:
    """The file of an entry as onnxruntime runs it, without a check: what an engine adds to."""

    backend, reason = 'onnxruntime, bare', 'asked for'

    def __init__(self, entry: ManifestEntry, threads: int) -> None:
        path: Path = engines_folder() / entry.file
        self.name, self.sha256 = entry.name, file_sha256(path)
        self.inputs = specs(entry.inputs, entry.dtypes)
        self.outputs = specs(entry.outputs, entry.dtypes)
        self._names = [spec.name for spec in self.outputs]
        content = path.read_bytes()
        self.precision = choose_precision('auto', 'fp32', content, path)
        self._session = open_session(content, path, threads)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch."""
        return dict(zip(self._names, self._session.run(self._names, feeds)))

    def close(self) -> None:
        """Free the network."""
        self._session = None


def by_torch(entry: ManifestEntry, threads: int) -> Engine:
    """Return the engine of an entry on the torch backend; its errors are `load_engine`'s."""
    return load_engine(entry.name, 'torch', threads=threads)


def times_ms(works: Sequence[Callable[[], object]], seconds: float) -> np.ndarray:
    """
    Times `(len(works), runs)`; `seconds` for each of them.

    They take turns, so that whatever else the machine does slows all of them alike.
    """
    rounds, end = [], time.perf_counter() + seconds * len(works)
    while len(rounds) < _LEAST_RUNS or time.perf_counter() < end:
        marks = [time.perf_counter()]
        for work in works:
            work()
            marks.append(time.perf_counter())
        rounds.append(np.diff(marks))
    return 1e3 * np.array(rounds).T


def random_feeds(inputs: Sequence[TensorSpec], batch: int) -> dict[str, np.ndarray]:
    """
    Return an array for each input, positive and of the size of normalised pictures.

    Whole numbers, such as rows of alpha, come out as 0 to 3.
    """
    rng = np.random.default_rng(0)
    return {
        spec.name: np.abs(rng.normal(size=spec.shape_for(batch))).clip(max=3).astype(spec.dtype)
        for spec in inputs}


def benchmark_engines(
        batches: Sequence[int], threads: Sequence[int], seconds: float,
        contender: Contender = lambda entry, threads: None) -> Iterator[dict[str, Any]]:
    """
    Measure every engine of the manifest; `seconds` for each row.

    contender  what to measure beside an engine, in turns with it

    Rows: network, engine, backend, precision, batch, threads, p50_ms, p95_ms.
    """
    for name, entry in read_manifest(engines_folder()).items():
        for count in threads:
            engines = [load_engine(name, threads=count)]
            other = contender(entry, count)
            engines += [other] if other is not None else []
            for batch in batches:
                yield from timed_rows(entry, engines, batch, count, seconds)
            for engine in engines:
                engine.close()


def timed_rows(
        entry: ManifestEntry, engines: Sequence[Engine], batch: int, threads: int,
        seconds: float) -> Iterator[dict[str, Any]]:
    """Measure engines of the same inputs in turns, `seconds` each; rows as above."""
    feeds = random_feeds(engines[0].inputs, batch)
    for engine in engines:
        engine.run(feeds)
    # A default argument binds each engine now, not the last one later.
    times = times_ms([lambda engine=engine: engine.run(feeds) for engine in engines], seconds)
    for engine, row in zip(engines, times):
        p50, p95 = np.percentile(row, (50, 95))
        yield {
            'network': entry.network, 'engine': entry.name, 'backend': engine.backend,
            'precision': engine.precision, 'batch': batch, 'threads': threads,
            'p50_ms': float(p50), 'p95_ms': float(p95)}
