# SPDX-License-Identifier: Apache-2.0
"""How fast the shipped engines are on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import time
from typing import Any

import numpy as np

from hmr_ros.runtime import Engine, load_engine
from hmr_ros.runtime.manifest import engines_folder, read_manifest


def _times_ms(work: Callable[[], object], seconds: float) -> np.ndarray:
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return np.array(times)


def _feeds(engine: Engine, batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        spec.name: rng.normal(size=(batch, *spec.shape[1:])).astype(spec.dtype)
        for spec in engine.inputs}


def benchmark_engines(
        batches: Sequence[int], threads: Sequence[int],
        seconds: float) -> Iterator[dict[str, Any]]:
    """
    Measure every engine of the manifest; `seconds` for each row.

    Rows: network, engine, backend, precision, batch, threads, p50_ms, p95_ms.
    """
    for name, entry in read_manifest(engines_folder()).items():
        for count in threads:
            engine = load_engine(name, threads=count)
            for batch in batches:
                feeds = _feeds(engine, batch)
                engine.run(feeds)
                p50, p95 = np.percentile(_times_ms(lambda: engine.run(feeds), seconds), (50, 95))
                yield {
                    'network': entry.network, 'engine': name, 'backend': engine.backend,
                    'precision': engine.precision, 'batch': batch, 'threads': count,
                    'p50_ms': float(p50), 'p95_ms': float(p95)}
            engine.close()
