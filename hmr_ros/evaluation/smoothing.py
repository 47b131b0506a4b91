# SPDX-License-Identifier: Apache-2.0
"""How steady, how right and how late smoothed bodies are, on synthetic people in motion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hmr_ros.body import load_body
from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation import held_out, metrics, real_motion
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.sequences import Film, films, RATE_HZ, steadiness
from hmr_ros.evaluation.subject import Subject
from hmr_ros.perception import rotations
from hmr_ros.perception.learned_smoothing import LearnedSmoother
from hmr_ros.perception.one_euro import OneEuroSettings
from hmr_ros.perception.person import Person
from hmr_ros.perception.smoothing import BodySmoother, OneEuroSmoother, SmoothingSettings
from hmr_ros.runtime import Engine, load_engine
from hmr_ros.runtime.manifest import engines_folder, read_manifest

FRAMES = 32
#: cut-offs of the One-Euro filters at rest, Hz, that show what steadiness costs in lag.
CUT_OFFS = (0.3, 0.6, 1.0, 1.5, 2.5, 4.0)
#: lags that are tried, in frames.
_LAGS = np.arange(-1.0, 4.001, 0.05)


def run_evaluation(
        engine: str, image_engine: str | None = None, count: int = 200,
        real: str | Path | None = None, out: str | Path | None = None,
        console: Console | None = None) -> dict[str, Any]:
    """
    Compare a temporal engine with bodies frame by frame and with One-Euro filters.

    engine        name of the temporal engine, or path of one that lies beside its manifest
    image_engine  the engine whose features it was trained on; None looks it up in the manifest
    count         held-out films of FRAMES frames at RATE_HZ, boxes shaking
    real          folder with the pedestrian clip of Debian's opencv-doc, or None
    out           folder for report.json and the plots, or None

    Raises EvaluationError when the engines do not belong together.
    """
    console, surroundings, body = console or Console(), context(), load_body()
    temporal = load_engine(engine)
    subject = Subject.of(_image_engine(temporal, image_engine), body)
    with Progress(console=console) as progress:
        task = progress.add_task('Held-out films (rendered once)', total=None)
        store = held_out.held_out_films(body, count, FRAMES, RATE_HZ)
        progress.remove_task(task)
        seen = films(subject, store, FRAMES, progress)
    methods = {'per_frame': None, 'learned': lambda: LearnedSmoother(temporal, body),
               'one_euro': lambda: OneEuroSmoother(body)}
    family = {f'one_euro_{hertz:g}_hz': _one_euro_maker(body, hertz) for hertz in CUT_OFFS}
    rows = {name: judge(seen, maker) for name, maker in {**methods, **family}.items()}
    report = {
        'network': temporal.entry.network, 'engine': engine, 'image_engine': subject.engine.name,
        'films': count, 'frames': FRAMES, 'rate_hz': RATE_HZ, 'methods': rows,
        'one_euro_at_equal_lag': at_lag(rows, rows['learned']['lag_ms']), **surroundings}
    if real is not None:
        report['real'] = real_motion.compare(real_motion.watch(subject, real), methods)
    show(report, console)
    if out is not None:
        _write(report, Path(out))
    return report


def _write(report: dict[str, Any], out: Path) -> None:
    from hmr_ros.evaluation import plots
    out.mkdir(parents=True, exist_ok=True)
    write_json(report, out / 'report.json')
    plots.steadiness_by_lag(report, out / 'steadiness.png')
    if 'real' in report:
        plots.real_accelerations(report, out / 'real_accelerations.png')


def _one_euro_maker(body: Any, hertz: float) -> Callable[[], BodySmoother]:
    """Filters whose cut-off does not rise with speed, so that one number sets their lag."""
    settings = replace(SmoothingSettings(), rotation=OneEuroSettings(hertz, 0.0, 1.0))
    return lambda: OneEuroSmoother(body, settings)


def _image_engine(temporal: Engine, name: str | None) -> Engine:
    """Return the engine whose features `temporal` was trained on."""
    wanted = temporal.entry.features_of if temporal.entry else ''
    if name is None:
        names = [key for key, entry in read_manifest(engines_folder()).items()
                 if entry.sha256 == wanted]
        if not names:
            raise EvaluationError(
                f'temporal engine {temporal.name!r} was trained on the features of the engine '
                f'{wanted[:12]}, which is not in the manifest; name the image engine')
        name = names[0]
    engine = load_engine(name)
    if wanted not in (engine.sha256, engine.entry.quantized_from if engine.entry else ''):
        raise EvaluationError(
            f'temporal engine {temporal.name!r} was trained on the features of the engine '
            f'{wanted[:12]}, but {name!r} is {engine.sha256[:12]}; name the right one')
    return engine


def judge(seen: Sequence[Film], maker: Callable[[], BodySmoother] | None) -> dict[str, float]:
    """Metrics of one method in mm and ms; None judges the bodies as they came."""
    predicted = [smoothed_joints(film, maker) for film in seen]
    true = [film.joints3d for film in seen]
    row = steadiness(predicted, true)
    pairs = list(zip(predicted, true))
    return {
        **row, 'mpjpe_mm': 1000 * float(np.mean([metrics.mpjpe(a, b) for a, b in pairs])),
        'pa_mpjpe_mm': 1000 * float(np.mean([metrics.pa_mpjpe(a, b) for a, b in pairs])),
        'lag_ms': 1000 * lag_frames(predicted, true) / RATE_HZ}


def smoothed_joints(film: Film, maker: Callable[[], BodySmoother] | None) -> np.ndarray:
    """Joints `(T, 24, 3)` of one film through a fresh smoother, frame after frame."""
    if maker is None:
        return film.predictions.joints3d
    smoother, rows = maker(), []
    for frame, (person, camera) in enumerate(zip(people_of(film), film.crops.cameras)):
        rows.append(smoother.smooth([person], camera, frame / RATE_HZ)[0].joints3d)
    return np.stack(rows)


def people_of(film: Film) -> list[Person]:
    """Return the person of each frame as `mesh_recovery` would give it out."""
    found = film.predictions
    pose = rotations.matrix_to_axis_angle(found.rotmats)
    return [
        Person('film', 1.0, np.zeros(4, np.float32), transform.matrix, pose[i, 0], pose[i, 1:],
               found.betas[i], found.transl[i], found.joints3d[i], found.joints2d[i],
               found.confidence[i], found.feature[i])
        for i, transform in enumerate(film.crops.transforms)]


def lag_frames(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray]) -> float:
    """
    By how many frames predicted joints trail the true ones: the shift that fits them best.

    Both are lists of `(T, 24, 3)`; positions count relative to the pelvis.
    """
    cost = np.zeros(len(_LAGS))
    for late, early in zip(predicted, true):
        late, early = late - late[:, :1], early - early[:, :1]
        times = np.arange(4, len(late) - 2, dtype=float)
        for i, lag in enumerate(_LAGS):
            at = times - lag
            low = np.floor(at).astype(int)
            share = (at - low)[:, None, None]
            shifted = (1 - share) * early[low] + share * early[low + 1]
            cost[i] += np.square(late[4:-2] - shifted).sum()
    return float(_LAGS[cost.argmin()])


def at_lag(rows: dict[str, dict[str, float]], lag_ms: float) -> dict[str, float]:
    """What One-Euro filters of `lag_ms` would reach, between those of CUT_OFFS."""
    family = sorted(
        (rows[f'one_euro_{hertz:g}_hz'] for hertz in CUT_OFFS), key=lambda row: row['lag_ms'])
    lags = [row['lag_ms'] for row in family]
    return {key: float(np.interp(lag_ms, lags, [row[key] for row in family]))
            for key in ('lag_ms', 'acceleration_mm', 'acceleration_error_mm', 'mpjpe_mm')}


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as a table."""
    table = Table(
        title=f'{report["engine"]} behind {report["image_engine"]}: {report["films"]} held-out '
              f'films, {report["rate_hz"]:g} Hz', box=SIMPLE_HEAD,
        caption='accelerations in mm per frame^2, errors in mm, lag in ms')
    keys = ('acceleration_error_mm', 'acceleration_mm', 'mpjpe_mm', 'pa_mpjpe_mm', 'lag_ms')
    for name in ('', 'ACC-ERR', 'ACC', 'MPJPE', 'PA-MPJPE', 'lag'):
        table.add_column(name, justify='right' if name else 'left')
    rows = {**report['methods'], 'one_euro at equal lag': report['one_euro_at_equal_lag']}
    for name, row in rows.items():
        table.add_row(name, *(f'{row[key]:.1f}' if key in row else '' for key in keys))
    console.print(table)
    if 'real' in report:
        means = ', '.join(f'{name} {value:.1f}' for name, value
                          in report['real']['acceleration_mm'].items())
        console.print(f'real clip, {report["real"]["people_frames"]} bodies: joints accelerate by '
                      f'{means} mm per frame^2')
