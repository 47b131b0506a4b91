# SPDX-License-Identifier: Apache-2.0
"""Errors of rsc_net over the resolution of its crops, on held-out synthetic people (sheet 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hmr_ros.body import load_body
from hmr_ros.body.model import BodyModel
from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation import held_out, metrics
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.prediction import normalised
from hmr_ros.perception import rotations, rsc_net
from hmr_ros.perception.mesh_recovery import RecoverySettings, settings_for
from hmr_ros.runtime import Engine, load_engine
from hmr_ros.training.rsc_net.ranges import degraded, MIDPOINTS
from hmr_ros.training.synthetic import CLEAN, SyntheticPeople

#: inputs `image`, normalised, and `row` to outputs, as an engine runs them.
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
_BATCH = 16
_DRAWS = 1000


@dataclass(frozen=True)
class Errors:
    """Mean joint error and that after the best similarity, mm, `(sides, people)` float64."""

    mpjpe: np.ndarray
    pa_mpjpe: np.ndarray

    def rows(self) -> list[dict[str, float]]:
        """Means over the people for each native side of MIDPOINTS."""
        return [{'pixels': side, 'mpjpe_mm': float(mpjpe.mean()), 'pa_mpjpe_mm': float(pa.mean())}
                for side, mpjpe, pa in zip(MIDPOINTS, self.mpjpe, self.pa_mpjpe)]


def run_evaluation(
        engines: Sequence[str] = ('rsc_net',), samples: int = 2000, out: str | Path | None = None,
        console: Console | None = None) -> dict[str, Any]:
    """
    Evaluate engines and return the report of `hmr evaluate rsc_net`.

    engines  names in the manifest, or paths beside a manifest; the others are compared with the
             first, on the same crops
    samples  held-out synthetic people, each at the five resolutions of MIDPOINTS

    Raises EvaluationError when the engines take crops of different sizes.
    """
    console, surroundings, body = console or Console(), context(), load_body()
    loaded = [load_engine(name) for name in engines]
    settings = _common_settings(loaded, body)
    people = SyntheticPeople(
        held_out.held_out_store(body, samples), settings.image_size, held_out.SEED, CLEAN,
        backgrounds=held_out.BACKGROUNDS, margin=rsc_net.MARGIN)
    with Progress(console=console) as progress:
        errors = errors_by_resolution(
            [engine.run for engine in loaded], body, people, settings, progress)
    first = loaded[0]
    report = {
        'network': 'rsc_net', 'engine': first.name, 'sha256': first.sha256, 'samples': samples,
        'by_resolution': errors[0].rows(), **surroundings,
        'compared': {engine.name: compared(found, errors[0])
                     for engine, found in zip(loaded[1:], errors[1:])}}
    show(report, console)
    if out is not None:
        _write(report, Path(out))
    return report


def _write(report: dict[str, Any], folder: Path) -> None:
    from hmr_ros.evaluation.plots import errors_by_resolution as plot
    folder.mkdir(parents=True, exist_ok=True)
    write_json(report, folder / 'report.json')
    plot(report, folder / 'by_resolution.png')


def _common_settings(engines: Sequence[Engine], body: BodyModel) -> RecoverySettings:
    settings = [settings_for(engine.entry, body) for engine in engines]
    if any(other != settings[0] for other in settings):
        raise EvaluationError(
            f'the engines {", ".join(engine.name for engine in engines)} take different crops '
            f'({", ".join(f"{other.image_size} px" for other in settings)}); compare engines of '
            'one size and normalisation, or evaluate each by itself')
    return settings[0]


def errors_by_resolution(
        runs: Sequence[Run], body: BodyModel, people: SyntheticPeople,
        settings: RecoverySettings, progress: Progress | None = None) -> list[Errors]:
    """Return each one's errors of the 24 joints at the native sides of MIDPOINTS."""
    task = progress.add_task('people', total=len(people)) if progress else None
    found: list[list[np.ndarray]] = [[] for _ in runs]
    for first in range(0, len(people), _BATCH):
        indices = np.arange(first, min(first + _BATCH, len(people)))
        samples = held_out.draw_samples(people, indices)
        feeds, true = _feeds(samples['image'], settings), samples['joints3d'][:, :24]
        for column, run in zip(found, runs):
            column.append(_batch_errors([joints_of(run(feed), body) for feed in feeds], true))
        if progress:
            progress.advance(task, len(indices))
    return [Errors(*np.concatenate(column, axis=-1)) for column in found]


def _feeds(crops: np.ndarray, settings: RecoverySettings) -> list[dict[str, np.ndarray]]:
    """Inputs of an engine for uint8 crops `(N, S, S, 3)` at each side of MIDPOINTS."""
    return [feeds_at(crops, settings, row) for row in range(len(MIDPOINTS))]


def feeds_at(crops: np.ndarray, settings: RecoverySettings, row: int) -> dict[str, np.ndarray]:
    """Inputs of an engine for uint8 crops `(N, S, S, 3)` at the side MIDPOINTS[row]."""
    images = np.stack([degraded(crop, MIDPOINTS[row]) for crop in crops])
    return {'image': normalised(images, settings), 'row': np.full(len(crops), row, np.int32)}


def _batch_errors(sides: list[np.ndarray], true: np.ndarray) -> np.ndarray:
    """Errors `(2, sides, N)` in mm, as they are and aligned, of joints `(N, 24, 3)` per side."""
    return 1000 * np.array([
        [measure(joints, true).mean(1) for joints in sides]
        for measure in (metrics.joint_errors, metrics.aligned_errors)])


def joints_of(outputs: Mapping[str, np.ndarray], body: BodyModel) -> np.ndarray:
    """Joints `(N, 24, 3)` in metres, up to a translation, of an engine's outputs."""
    rsc_net.check_outputs(outputs)
    numbers = np.asarray(outputs['pose6d'], np.float32).reshape(-1, 24, 6)
    joints, _ = body.pose_joints(
        rotations.matrix_from_6d(numbers), np.asarray(outputs['betas'], np.float32))
    return joints


def compared(errors: Errors, reference: Errors) -> list[dict[str, float]]:
    """
    Rows of `errors` and how much more PA-MPJPE, in percent, they are than those of `reference`.

    pa_spread_percent is the standard deviation of that when the people are drawn again (paired
    bootstrap).
    """
    rng = np.random.default_rng(0)
    drawn = rng.integers(errors.pa_mpjpe.shape[1], size=(_DRAWS, errors.pa_mpjpe.shape[1]))
    rows = []
    for row, ours, theirs in zip(errors.rows(), errors.pa_mpjpe, reference.pa_mpjpe):
        again = ours[drawn].mean(1) / theirs[drawn].mean(1)
        rows.append({**row, 'pa_change_percent': float(100 * (ours.mean() / theirs.mean() - 1)),
                     'pa_spread_percent': float(100 * again.std())})
    return rows


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as a table."""
    table = Table(title=f'{report["samples"]} held-out people, MPJPE / PA-MPJPE in mm',
                  box=SIMPLE_HEAD)
    for name in ('engine', *(f'{side} px' for side in MIDPOINTS)):
        table.add_column(name, justify='right')
    for name, rows in {report['engine']: report['by_resolution'], **report['compared']}.items():
        table.add_row(name, *(_cell(row) for row in rows))
    console.print(table)


def _cell(row: dict[str, float]) -> str:
    text = f'{row["mpjpe_mm"]:.1f} / {row["pa_mpjpe_mm"]:.1f}'
    if 'pa_change_percent' not in row:
        return text
    return f'{text} ({row["pa_change_percent"]:+.1f} ± {row["pa_spread_percent"]:.1f} %)'
