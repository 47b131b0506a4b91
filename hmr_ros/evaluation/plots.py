# SPDX-License-Identifier: Apache-2.0
"""Plots of an evaluation report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
import numpy as np


def error_by_joint(report: dict[str, Any], path: Path) -> None:
    """Bars of MPJPE and PA-MPJPE for each joint."""
    joints = report['per_joint']
    figure = Figure(figsize=(10, 4.5), layout='constrained')
    axes = figure.subplots()
    place = np.arange(len(joints))
    for shift, key, label in ((-.2, 'mpjpe_mm', 'MPJPE'), (.2, 'pa_mpjpe_mm', 'PA-MPJPE')):
        values = [row[key] for row in joints.values()]
        mean = report[key]
        axes.bar(place + shift, values, 0.4, label=f'{label}, mean {mean:.0f} mm')
    axes.set_xticks(place, [name.replace('_', ' ') for name in joints], rotation=60, ha='right')
    axes.set_ylabel('error, mm')
    axes.set_title(f'{report["samples"]} held-out synthetic people')
    axes.legend()
    figure.savefig(path, dpi=120)


def pck_curves(report: dict[str, Any], path: Path) -> None:
    """PCK of the limb joints over the threshold: by resolution, augmented, and on real people."""
    figure = Figure(figsize=(7, 5), layout='constrained')
    axes = figure.subplots()
    lines = [(f'clean, {row["pixels"]} px', row) for row in report['by_resolution']]
    lines.append(('augmented', report['augmented']))
    if 'real' in report:
        lines.append((f'{report["real"]["people"]} real people', report['real']))
    for label, row in lines:
        curve = row['pck_curve']
        axes.plot(curve['thresholds'], curve['limbs'], marker='o', ms=3, label=label)
    axes.axvline(0.2, color='0.8', zorder=0)
    axes.set_xlabel('threshold, share of the torso')
    axes.set_ylabel('limb joints within it, %')
    axes.set_ylim(0, 100)
    axes.legend()
    figure.savefig(path, dpi=120)
