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


def breakdowns(report: dict[str, Any], path: Path) -> None:
    """PCK and PA-MPJPE by distance and yaw (clean crops) and by hidden joints (augmented crops)."""
    figure = Figure(figsize=(11, 6), layout='constrained')
    panels = figure.subplots(2, 3)
    names = {'distance_m': 'distance, m', 'yaw_deg': 'turned from the camera, degrees',
             'hidden': 'limb joints hidden, %'}
    for column, (name, title) in enumerate(names.items()):
        source = report['augmented'] if name == 'hidden' else report
        rows = source['by_group'][name]
        labels = [_range(row, 100 if name == 'hidden' else 1) for row in rows]
        for axes, key, what in ((panels[0, column], 'pck', 'PCK@0.2 of the limbs, %'),
                                (panels[1, column], 'pa_mpjpe_mm', 'PA-MPJPE, mm')):
            bars = axes.bar(labels, [row[key] for row in rows], color='tab:blue')
            axes.bar_label(bars, [f'{row["samples"]}' for row in rows], fontsize=7)
            axes.set_ylabel(what)
            axes.tick_params(axis='x', labelsize=8)
        panels[1, column].set_xlabel(title)
    figure.suptitle('by group; people in the group above each bar')
    figure.savefig(path, dpi=120)


def reliability(report: dict[str, Any], path: Path) -> None:
    """How often keypoints are right over their confidence; a calibrated one is the diagonal."""
    figure = Figure(figsize=(5, 5), layout='constrained')
    axes = figure.subplots()
    lines = [('clean', report), ('augmented', report['augmented'])]
    if 'real' in report:
        lines.append((f'{report["real"]["people"]} real people', report['real']))
    for label, source in lines:
        rows = source['reliability']
        axes.plot([row['confidence'] for row in rows], [row['right'] for row in rows],
                  marker='o', ms=4, label=label)
    axes.plot([0, 1], [0, 1], color='0.8', zorder=0)
    axes.set_xlabel('confidence')
    axes.set_ylabel('share of limb keypoints within 0.2 of the torso')
    axes.legend()
    figure.savefig(path, dpi=120)


def errors_by_resolution(report: dict[str, Any], path: Path) -> None:
    """MPJPE and PA-MPJPE over the native side of the crop, a line for each engine."""
    figure = Figure(figsize=(9, 4), layout='constrained')
    engines = {report['engine']: report['by_resolution'], **report['compared']}
    for axes, key, what in zip(figure.subplots(1, 2), ('mpjpe_mm', 'pa_mpjpe_mm'),
                               ('MPJPE, mm', 'PA-MPJPE, mm')):
        for name, rows in engines.items():
            axes.plot([row['pixels'] for row in rows], [row[key] for row in rows], marker='o',
                      ms=4, label=name)
        axes.set_xscale('log')
        sides = [row['pixels'] for row in report['by_resolution']]
        axes.set_xticks(sides, [str(side) for side in sides])
        axes.minorticks_off()
        axes.set_xlabel('native side of the crop, px')
        axes.set_ylabel(what)
    axes.legend()
    figure.suptitle(f'{report["samples"]} held-out synthetic people')
    figure.savefig(path, dpi=120)


def steadiness_by_lag(report: dict[str, Any], path: Path) -> None:
    """Acceleration error and MPJPE over lag: One-Euro filters are a line, the others points."""
    figure = Figure(figsize=(9, 4), layout='constrained')
    family = sorted((row for name, row in report['methods'].items() if name.endswith('_hz')),
                    key=lambda row: row['lag_ms'])
    names = {'per_frame': 'frame by frame', 'learned': report['engine'],
             'one_euro': 'One-Euro, as shipped'}
    for axes, key, what in zip(figure.subplots(1, 2), ('acceleration_error_mm', 'mpjpe_mm'),
                               ('acceleration error, mm per frame²', 'MPJPE, mm')):
        axes.plot([row['lag_ms'] for row in family], [row[key] for row in family], color='0.6',
                  marker='.', label='One-Euro, by cut-off')
        for name, label in names.items():
            row = report['methods'][name]
            axes.plot(row['lag_ms'], row[key], 'o', label=label)
        axes.set_xlabel('lag, ms')
        axes.set_ylabel(what)
        axes.set_ylim(bottom=0)
    axes.legend()
    figure.suptitle(f'{report["films"]} held-out synthetic films')
    figure.savefig(path, dpi=120)


def real_accelerations(report: dict[str, Any], path: Path) -> None:
    """How the joints of the real person seen longest accelerate, frame by frame and smoothed."""
    figure = Figure(figsize=(9, 3.5), layout='constrained')
    axes = figure.subplots()
    names = {'per_frame': 'frame by frame', 'one_euro': 'One-Euro', 'learned': report['engine']}
    means = report['real']['acceleration_mm']
    for name, label in names.items():
        course = np.float64(report['real']['longest_track'][name])
        axes.plot(course[:, 0], course[:, 1], label=f'{label}, all people {means[name]:.0f}')
    axes.set_xlabel('frame of the clip, 10 a second')
    axes.set_ylabel('mean over the joints, mm per frame²')
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.set_title('Joint accelerations of one pedestrian')
    figure.savefig(path, dpi=120)


def precision_recall(report: dict[str, Any], path: Path) -> None:
    """Precision over recall of person detectors, with a dot where their own settings stand."""
    from hmr_ros.evaluation.detection import PARTS
    parts = {what: report[key] for key, what in PARTS.items() if key in report}
    names = dict.fromkeys(name for part in parts.values() for name in part['methods'])
    colors = {name: f'C{i}' for i, name in enumerate(names)}
    figure = Figure(figsize=(5 * len(parts), 5), layout='constrained')
    panels = figure.subplots(1, len(parts), squeeze=False)[0]
    for axes, (what, part) in zip(panels, parts.items()):
        for name, row in part['methods'].items():
            axes.plot(row['curve']['recall'], row['curve']['precision'], color=colors[name],
                      label=f'{name}, {row["p50_ms"]:.0f} ms')
            axes.plot(row['found'] / max(part['people'], 1), row['precision'], 'o',
                      color=colors[name])
        axes.set_title(f'{part["people"]} people in {part["images"]} {what}')
        axes.set_xlabel('recall')
        axes.set_ylabel('precision')
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.legend()
    figure.savefig(path, dpi=120)


def _range(row: dict[str, Any], scale: float) -> str:
    low, high = scale * row['from'], row['to']
    if high is None:
        return f'{low:g}+'
    return f'{low:.0f}-{min(scale * high, 180 if scale == 1 else 100):.0f}'
