# SPDX-License-Identifier: Apache-2.0
"""Errors of rsc_net over the resolution of its crops, on held-out synthetic people (sheet 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hmr_ros.body import load_body
from hmr_ros.body.model import BodyModel
from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation import held_out, metrics
from hmr_ros.perception import rotations, rsc_net
from hmr_ros.perception.mesh_recovery import settings_for
from hmr_ros.runtime import load_engine
from hmr_ros.training.rsc_net.ranges import degraded, MIDPOINTS
from hmr_ros.training.synthetic import CLEAN, SyntheticPeople

#: inputs `image`, normalised, and `row` to outputs, as an engine runs them.
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
_BATCH = 16


def run_evaluation(
        engine: str = 'rsc_net', samples: int = 2000, out: str | Path | None = None,
        console: Console | None = None) -> dict[str, Any]:
    """
    Evaluate an engine and return the report of `hmr evaluate rsc_net`.

    engine   name in the manifest, or path of one beside a manifest
    samples  held-out synthetic people, each at the five resolutions of MIDPOINTS
    """
    console, surroundings, body = console or Console(), context(), load_body()
    loaded = load_engine(engine)
    settings = settings_for(loaded.entry, body)
    people = SyntheticPeople(
        held_out.held_out_store(body, samples), settings.image_size, held_out.SEED, CLEAN,
        backgrounds=held_out.BACKGROUNDS, margin=rsc_net.MARGIN)
    with Progress(console=console) as progress:
        rows = by_resolution(loaded.run, body, people, settings.mean, settings.std, progress)
    report = {'network': 'rsc_net', 'engine': loaded.name, 'sha256': loaded.sha256,
              'samples': samples, 'by_resolution': rows, **surroundings}
    show(report, console)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(report, Path(out) / 'report.json')
    return report


def by_resolution(
        run: Run, body: BodyModel, people: SyntheticPeople, mean: tuple[float, ...],
        std: tuple[float, ...], progress: Progress | None = None) -> list[dict[str, float]]:
    """MPJPE and PA-MPJPE of the 24 joints in mm for each native side of MIDPOINTS."""
    rows = []
    for row, side in enumerate(MIDPOINTS):
        pixels = round(side * people.size / MIDPOINTS[0])
        task = progress.add_task(f'{side} px', total=len(people)) if progress else None
        found, true = [], []
        for first in range(0, len(people), _BATCH):
            indices = np.arange(first, min(first + _BATCH, len(people)))
            samples = held_out.draw_samples(people, indices)
            images = np.stack([degraded(image, pixels) for image in samples['image']])
            found.append(_joints(run, body, images, row, mean, std))
            true.append(samples['joints3d'][:, :24])
            if progress:
                progress.advance(task, len(indices))
        pair = np.concatenate(found), np.concatenate(true)
        rows.append({'pixels': side, 'mpjpe_mm': 1000 * metrics.mpjpe(*pair),
                     'pa_mpjpe_mm': 1000 * metrics.pa_mpjpe(*pair)})
    return rows


def _joints(
        run: Run, body: BodyModel, images: np.ndarray, row: int, mean: tuple[float, ...],
        std: tuple[float, ...]) -> np.ndarray:
    """Joints `(N, 24, 3)` in metres, up to a translation, of uint8 crops `(N, S, S, 3)`."""
    batch = (images.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    outputs = run({'image': np.ascontiguousarray(batch.transpose(0, 3, 1, 2)),
                   'row': np.full(len(images), row, np.int32)})
    rsc_net.check_outputs(outputs)
    numbers = np.asarray(outputs['pose6d'], np.float32).reshape(-1, 24, 6)
    joints, _ = body.pose_joints(
        rotations.matrix_from_6d(numbers), np.asarray(outputs['betas'], np.float32))
    return joints


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as a table."""
    table = Table(title=f'{report["engine"]}: {report["samples"]} held-out people, errors in mm',
                  box=SIMPLE_HEAD)
    for name in ('native side, px', 'MPJPE', 'PA-MPJPE'):
        table.add_column(name, justify='right')
    for row in report['by_resolution']:
        table.add_row(f'{row["pixels"]}', f'{row["mpjpe_mm"]:.1f}', f'{row["pa_mpjpe_mm"]:.1f}')
    console.print(table)
