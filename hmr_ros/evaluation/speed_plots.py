# SPDX-License-Identifier: Apache-2.0
"""Plots of the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
import numpy as np

#: what a frame passes through, in order; detection and drawing run beside it.
_WAY = ('crop', 'network', 'decode_ik', 'smoothing', 'skinning', 'markers')


def pipeline_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Where the time of a frame goes, and how many frames come out, for each run."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    labels = [f'{row["pace"]}\n{row["most_people"]} people' for row in rows]
    place, bottom = np.arange(len(rows)), np.zeros(len(rows))
    for stage in _WAY:
        heights = np.array([row['stages_ms'].get(stage, {}).get('p50', 0.0) for row in rows])
        left.bar(place, np.nan_to_num(heights), bottom=bottom, label=stage.replace('_', ' '))
        bottom += np.nan_to_num(heights)
    ends = np.array([row['latency_ms']['p50'] for row in rows])
    # Waiting, messages and whatever else the cores do meanwhile.
    left.bar(place, np.maximum(ends - bottom, 0), bottom=bottom, color='0.85', label='the rest')
    left.set_ylabel('image stamp to mesh, p50, ms')
    left.legend(fontsize=8)
    bars = right.bar(place, [row['fps'] for row in rows], color='tab:green')
    right.bar_label(bars, [f'{row["people"]:.1f}' for row in rows], fontsize=8)
    right.set_ylabel('frames a second; people in a frame above')
    for axes in (left, right):
        axes.set_xticks(place, labels, fontsize=8)
    figure.savefig(path, dpi=120)
