# SPDX-License-Identifier: Apache-2.0
"""Times the stages of digitizing one person; a process of its own, so that its memory is told."""

from __future__ import annotations

from dataclasses import dataclass
import json
import sys
import time
from typing import Any

import numpy as np

from hmr_ros.perception.digitizer.depth import FRONT_EMPTY
from hmr_ros.perception.digitizer.digitization import digitize, STAGES
from hmr_ros.perception.digitizer.frame import LOW
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.digitizer.networks import EngineNetworks, Networks
from hmr_ros.runtime.benchmark import status_mb
from hmr_ros.runtime.digitizer import open_digitizer

#: after the first, which takes the memory.
_LEAST_RUNS = 3
#: where every eighth pixel begins (sheet, 3.2).
_FIRST = 3


@dataclass(frozen=True)
class KnownPerson:
    """
    Networks that do their work and answer with a person who is known.

    So tiles and pieces are those of somebody, whatever weights the networks have.

    networks     whose work is timed
    front, back  (S, S) float32 D of the person
    """

    networks: Networks
    front: np.ndarray
    back: np.ndarray

    @property
    def resolution(self) -> int:
        """See Networks."""
        return self.networks.resolution

    def low(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See Networks."""
        normals, _ = self.networks.low(image)
        return normals, self._answer()[:, _FIRST::LOW, _FIRST::LOW]

    def parts(self, patches: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See Networks."""
        return self.networks.parts(patches)

    def refine(self, pair: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """See Networks."""
        self.networks.refine(pair, normals)
        return self._answer()

    def _answer(self) -> np.ndarray:
        return np.stack([self.front, self.back, np.float32(self.front < FRONT_EMPTY)])


def stage_times_ms(
        image: np.ndarray, joints: Joints, networks: Networks) -> dict[str, float]:
    """Digitize once; return how long each of STAGES took."""
    marks: list[tuple[str, float]] = []
    digitize(image, joints, networks, lambda stage, _: marks.append((stage, time.perf_counter())))
    marks.append(('', time.perf_counter()))
    spent = dict.fromkeys(STAGES, 0.0)
    for (stage, begin), (_, end) in zip(marks, marks[1:]):
        spent[stage] += 1e3 * (end - begin)
    return spent


def measure(
        name: str, person: str, backend: str, precision: str, threads: int,
        seconds: float) -> dict[str, Any]:
    """
    Time engines on a person; see `digitizer_speed.benchmark_digitizer`.

    person  file with image, joints, front and back
    """
    known = np.load(person)
    before = status_mb('VmRSS')
    engines = open_digitizer(name, backend, precision, threads)
    networks = KnownPerson(EngineNetworks(engines), known['front'], known['back'])
    image, joints = known['image'], Joints(known['joints'])
    stage_times_ms(image, joints, networks)
    rows, end = [], time.perf_counter() + seconds
    while len(rows) < _LEAST_RUNS or time.perf_counter() < end:
        rows.append(stage_times_ms(image, joints, networks))
    low = engines['low']
    return {
        'backend': low.backend, 'precision': low.precision, 'resolution': networks.resolution,
        'runs': len(rows),
        'stages_ms': {stage: float(np.median([row[stage] for row in rows])) for stage in STAGES},
        'total_ms': float(np.median([sum(row.values()) for row in rows])),
        'memory_mb': status_mb('VmHWM') - before}


def _main(
        name: str, person: str, backend: str, precision: str, threads: str, seconds: str) -> None:
    print(json.dumps(measure(name, person, backend, precision, int(threads), float(seconds))))


if __name__ == '__main__':
    _main(*sys.argv[1:])
