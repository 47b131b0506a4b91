# SPDX-License-Identifier: Apache-2.0
"""What a node says about itself once a second on /diagnostics."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
import functools
from pathlib import Path
import platform
import time

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
import numpy as np

# Older complaints no longer colour the status; they stay in the values.
COMPLAINT_S = 5.0
LOST_SHARE = 0.1


@functools.lru_cache(maxsize=1)
def hardware_id() -> str:
    """Return the processor's name."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


class LatencyWindow:
    """The newest few hundred durations of one stage, in milliseconds."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=500)

    def add(self, milliseconds: float) -> None:
        """Record one duration."""
        self._values.append(milliseconds)

    def percentiles(self) -> tuple[float, float]:
        """Return p50 and p95; NaN when nothing was recorded."""
        if not self._values:
            return float('nan'), float('nan')
        p50, p95 = np.percentile(list(self._values), (50, 95))
        return float(p50), float(p95)


@dataclass(frozen=True)
class Complaint:
    """Something that went wrong: one sentence with cause and remedy."""

    level: bytes
    text: str
    time_s: float


class NodeDiagnostics:
    """
    Counters, latencies and the last complaint of one node.

    Each counter is written by one thread only, so no lock is needed. `frames_in`,
    `frames_processed`, `frames_dropped` and `frames_rejected` are always there.
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter(
            frames_in=0, frames_processed=0, frames_dropped=0, frames_rejected=0, failures=0)
        self.latency: dict[str, LatencyWindow] = {'end_to_end': LatencyWindow()}
        self.facts: dict[str, str] = {}
        self.complaint: Complaint | None = None
        self.blocked: str | None = None
        self.last_input_s = time.monotonic()
        self._reported: tuple[float, Counter[str]] = (time.monotonic(), Counter())

    def note_input(self) -> None:
        """Count one incoming frame."""
        self.counters['frames_in'] += 1
        self.last_input_s = time.monotonic()

    def add_latency(self, stage: str, milliseconds: float) -> None:
        """Record how long a stage took."""
        self.latency.setdefault(stage, LatencyWindow()).add(milliseconds)

    def complain(self, level: bytes, text: str) -> None:
        """Remember a complaint; `level` is one of DiagnosticStatus' constants."""
        self.complaint = Complaint(level, text, time.monotonic())

    def summary(self) -> dict[str, dict]:
        """Return counters and latencies, as reports show them."""
        latency = {stage: dict(zip(('p50', 'p95'), window.percentiles()))
                   for stage, window in self.latency.items()}
        return {'counters': dict(self.counters), 'latency_ms': latency}

    def status(
            self, name: str, state: str, input_timeout_s: float, latency_budget_ms: float,
            input_name: str) -> DiagnosticStatus:
        """Return the present status; call it once a second, because rates are between calls."""
        level, message = self._verdict(state, input_timeout_s, latency_budget_ms, input_name)
        values = {'state': state, **self.facts, **self._rates()}
        values.update({key: str(count) for key, count in self.counters.items()})
        for stage, window in self.latency.items():
            p50, p95 = window.percentiles()
            values.update({f'{stage} p50 [ms]': f'{p50:.1f}', f'{stage} p95 [ms]': f'{p95:.1f}'})
        if self.complaint:
            values['last error'] = self.complaint.text
        return DiagnosticStatus(
            level=level, name=name, message=message, hardware_id=hardware_id(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()])

    def _verdict(
            self, state: str, input_timeout_s: float, latency_budget_ms: float,
            input_name: str) -> tuple[bytes, str]:
        if self.blocked:
            return DiagnosticStatus.ERROR, self.blocked
        if state != 'active':
            return DiagnosticStatus.OK, state
        now = time.monotonic()
        if self.complaint and now - self.complaint.time_s < COMPLAINT_S:
            return self.complaint.level, self.complaint.text
        silence = now - self.last_input_s
        if input_name and silence > input_timeout_s:
            return DiagnosticStatus.ERROR, (
                f'nothing on {input_name} for {silence:.1f} s; is its publisher running, and is '
                'the topic remapped rightly?')
        return self._performance(latency_budget_ms)

    def _performance(self, latency_budget_ms: float) -> tuple[bytes, str]:
        _, p95 = self.latency['end_to_end'].percentiles()
        if p95 > latency_budget_ms:
            return DiagnosticStatus.WARN, (
                f'p95 latency is {p95:.0f} ms, over latency_budget_ms {latency_budget_ms:.0f}')
        lost, frames = self.counters['boxes_without_image'], self.counters['frames_in']
        if lost > LOST_SHARE * max(frames, 10):
            return DiagnosticStatus.WARN, (
                f'{lost} of {frames} box messages came without their image; raise paired_images, '
                'or make the detector copy the image stamp')
        return DiagnosticStatus.OK, 'running'

    def _rates(self) -> Mapping[str, str]:
        now, (before, counted) = time.monotonic(), self._reported
        self._reported = (now, Counter(self.counters))
        span = max(now - before, 1e-3)
        return {f'{label} [Hz]': f'{(self.counters[key] - counted[key]) / span:.1f}'
                for label, key in (('input', 'frames_in'), ('output', 'frames_processed'))}
