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
    labels = [f'{row["pace"]}\nat most {row["most_people"]}' for row in rows]
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


def binary_layers(rows: Sequence[dict[str, Any]], limit_gmacs: float, path: Path) -> None:
    """Products of bits a second of each layer beside what the processor can count, and ratios."""
    figure = Figure(figsize=(10, 4.5), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    place = np.arange(len(rows))
    left.barh(place, [row['gmacs'] for row in rows])
    left.axvline(limit_gmacs, color='tab:red', label='popcounts in registers')
    left.set_xlabel('products of bits a second, 1e9')
    left.legend(fontsize=8)
    bars = right.barh(place, [row['ratio'] for row in rows], color='tab:green')
    right.bar_label(bars, [f'{row["ratio"]:.1f}' for row in rows], fontsize=8)
    right.set_xlabel('times as fast as the same convolution of floats')
    left.set_yticks(place, [row['layer'] for row in rows], fontsize=7)
    left.invert_yaxis()
    figure.savefig(path, dpi=120)


def engine_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Milliseconds a person over the people of a call, a line for each way to run an engine."""
    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        cores = 'core' if row['threads'] == 1 else 'cores'
        lines.setdefault(f'{row["engine"]}, {row["backend"]} {row["precision"]}, '
                         f'{row["threads"]} {cores}', []).append(row)
    for label, found in lines.items():
        axes.plot([row['batch'] for row in found],
                  [row['p50_ms'] / row['batch'] for row in found], marker='o', ms=4, label=label)
    batches = sorted({row['batch'] for row in rows})
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.set_xlabel('people of one call')
    axes.set_ylabel('p50 of the call, ms a person')
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
