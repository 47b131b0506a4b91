# SPDX-License-Identifier: Apache-2.0
"""How fast the shipped engines are on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import itertools
import json
import os
from pathlib import Path
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

from hmr_ros.runtime import (
    BACKENDS, Engine, EngineError, load_engine, resolve_engine, TensorSpec)
from hmr_ros.runtime.manifest import (
    engines_folder, file_sha256, ManifestEntry, most_of, read_manifest, specs)
from hmr_ros.runtime.onnx_engine import choose_onnx_precision, on_processor, open_session

#: what may be measured: the backends, and onnxruntime without an engine around it.
CONTENDERS = (*BACKENDS, 'bare')
_LEAST_RUNS = 5


class BareSession:
    """The file of an entry as onnxruntime runs it, without a check: what an engine adds to."""

    backend, reason = 'onnxruntime, bare', 'asked for'

    def __init__(self, entry: ManifestEntry, threads: int, precision: str = 'auto') -> None:
        path: Path = engines_folder() / entry.file
        self.name, self.sha256 = entry.name, file_sha256(path)
        self.inputs = specs(entry.inputs, entry.dtypes)
        self.outputs = specs(entry.outputs, entry.dtypes)
        self._names = [spec.name for spec in self.outputs]
        content = path.read_bytes()
        self.precision = choose_onnx_precision(precision, content, path, self.reason)
        self._session = open_session(content, path, threads)
        self.on_processor = on_processor(self._session)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch."""
        return dict(zip(self._names, self._session.run(self._names, feeds)))

    def close(self) -> None:
        """Free the network."""
        self._session = None


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


@dataclass(frozen=True)
class Contender:
    """
    One way to run an engine of the manifest.

    backend    one of CONTENDERS
    precision  as for `load_engine`
    threads    cores of one call
    """

    entry: ManifestEntry
    backend: str
    precision: str
    threads: int

    def open(self) -> Engine:
        """Load it. Raises EngineError where it cannot run."""
        if self.backend == 'bare':
            return BareSession(self.entry, self.threads, self.precision)
        return load_engine(self.entry.name, self.backend, self.precision, self.threads)


@dataclass(frozen=True)
class Plan:
    """
    What is measured: each engine by each backend in each precision, for all threads and batches.

    engines     names in the manifest
    seconds     for each row and each of its measurements
    """

    engines: Sequence[str]
    backends: Sequence[str]
    precisions: Sequence[str]
    batches: Sequence[int]
    threads: Sequence[int]
    seconds: float

    def contenders(self) -> Iterator[tuple[Contender, ...]]:
        """Yield those that take turns: of the same engine and threads."""
        entries = read_manifest(engines_folder())
        for name, threads in itertools.product(self.engines or entries, self.threads):
            _, entry = resolve_engine(name)
            yield tuple(Contender(entry, backend, precision, threads) for backend, precision
                        in itertools.product(self.backends, self.precisions))


def benchmark_engines(
        plan: Plan, refused: Callable[[str], object],
        measure: Callable[[Contender, int, float], dict[str, Any]] = lambda *_: {},
) -> Iterator[dict[str, Any]]:
    """
    Measure engines of the manifest, those of the same file in turns.

    refused  is told what cannot run here, and why
    measure  gives more columns for a contender, batch and seconds; see `saturation`

    Rows: network, engine, backend, precision, batch, threads, p50_ms, p95_ms.
    """
    for rivals in plan.contenders():
        opened = _open_all(rivals, refused)
        batches = {most_of(rivals[0].entry, batch): None for batch in plan.batches}
        for batch in batches if opened else ():
            engines = [engine for _, engine in opened]
            rows = timed_rows(
                rivals[0].entry, engines, batch, rivals[0].threads, plan.seconds)
            for (contender, _), row in zip(opened, list(rows)):
                yield {**row, **measure(contender, batch, plan.seconds)}
        for _, engine in opened:
            engine.close()


def _open_all(
        rivals: Sequence[Contender],
        refused: Callable[[str], object]) -> list[tuple[Contender, Engine]]:
    opened = []
    for contender in rivals:
        try:
            opened.append((contender, contender.open()))
        except EngineError as error:
            refused(f'{contender.entry.name}, {contender.backend}, {contender.precision}: {error}')
    return opened


def saturation(contender: Contender, batch: int, seconds: float) -> dict[str, float]:
    """
    Return people_per_s with as many engines at work as the cores allow, and memory_mb of one.

    On a GPU one engine is at work. The memory is what a fresh process takes to load and run it:
    resident at its peak, less what it had before; the backend's libraries are part of that.
    """
    memory_mb, on_processor = _memory(contender, batch)
    cores = len(os.sched_getaffinity(0)) if on_processor else 1
    count = max(1, cores // max(contender.threads, 1))
    start = threading.Barrier(count)
    with ThreadPoolExecutor(count) as workers:
        counts = [workers.submit(_people_in, contender, batch, seconds, start)
                  for _ in range(count)]
    return {'people_per_s': sum(done.result() for done in counts), 'memory_mb': memory_mb}


def _people_in(
        contender: Contender, batch: int, seconds: float, start: threading.Barrier) -> float:
    """Return the people a second of one engine, which its own thread must load."""
    engine = contender.open()
    feeds = random_feeds(engine.inputs, batch)
    engine.run(feeds)
    start.wait()
    begin, runs = time.perf_counter(), 0
    while runs < _LEAST_RUNS or time.perf_counter() < begin + seconds:
        engine.run(feeds)
        runs += 1
    rate = runs * batch / (time.perf_counter() - begin)
    engine.close()
    return rate


def _memory(contender: Contender, batch: int) -> tuple[float, bool]:
    """Ask a fresh process for the megabytes of an engine, and whether it needs the cores."""
    words = [contender.entry.name, contender.backend, contender.precision, contender.threads, batch]
    done = subprocess.run(
        [sys.executable, '-m', __name__, *map(str, words)], capture_output=True, text=True,
        check=False)
    if done.returncode:
        raise EngineError(f'the memory of {contender.entry.name} cannot be measured: '
                          f'{done.stderr.strip().splitlines()[-1:]}')
    memory_mb, on_processor = json.loads(done.stdout)
    return memory_mb, on_processor


def _main(name: str, backend: str, precision: str, threads: str, batch: str) -> None:
    """Print, as JSON, what `_memory` wants to know; this process is the fresh one."""
    _, entry = resolve_engine(name)
    before = status_mb('VmRSS')
    engine = Contender(entry, backend, precision, int(threads)).open()
    engine.run(random_feeds(engine.inputs, int(batch)))
    print(json.dumps((status_mb('VmHWM') - before, engine.on_processor)))


def status_mb(field: str) -> float:
    """Megabytes of this process: VmRSS, resident now, or VmHWM, at their peak."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


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


if __name__ == '__main__':
    _main(*sys.argv[1:])
