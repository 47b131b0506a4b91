# SPDX-License-Identifier: Apache-2.0
"""How fast the shipped engines are on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import time
from typing import Any

import numpy as np

from hmr_ros.runtime import Engine, load_engine
from hmr_ros.runtime.manifest import engines_folder, ManifestEntry, read_manifest

#: makes another engine like that of an entry, for a number of threads, to compare with.
Contender = Callable[[ManifestEntry, int], Engine]
_LEAST_RUNS = 5


def _times_ms(works: Sequence[Callable[[], object]], seconds: float) -> np.ndarray:
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


def _feeds(engine: Engine, batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        spec.name: rng.normal(size=spec.shape_for(batch)).astype(spec.dtype)
        for spec in engine.inputs}


def benchmark_engines(
        batches: Sequence[int], threads: Sequence[int], seconds: float,
        contenders: Mapping[str, Contender] | None = None) -> Iterator[dict[str, Any]]:
    """
    Measure every engine of the manifest; `seconds` for each row.

    contenders  by network: what to measure beside its engines, in turns with them

    Rows: network, engine, backend, precision, batch, threads, p50_ms, p95_ms.
    """
    contenders = contenders or {}
    for name, entry in read_manifest(engines_folder()).items():
        for count in threads:
            engines = [load_engine(name, threads=count)]
            if entry.network in contenders:
                engines.append(contenders[entry.network](entry, count))
            for batch in batches:
                yield from _rows(entry, engines, batch, count, seconds)
            for engine in engines:
                engine.close()


def _rows(
        entry: ManifestEntry, engines: Sequence[Engine], batch: int, threads: int,
        seconds: float) -> Iterator[dict[str, Any]]:
    feeds = _feeds(engines[0], batch)
    for engine in engines:
        engine.run(feeds)
    # A default argument binds each engine now, not the last one later.
    times = _times_ms([lambda engine=engine: engine.run(feeds) for engine in engines], seconds)
    for engine, row in zip(engines, times):
        p50, p95 = np.percentile(row, (50, 95))
        yield {
            'network': entry.network, 'engine': entry.name, 'backend': engine.backend,
            'precision': engine.precision, 'batch': batch, 'threads': threads,
            'p50_ms': float(p50), 'p95_ms': float(p95)}
