# SPDX-License-Identifier: Apache-2.0
"""How good an engine of keypoint_guided is, on synthetic people and on real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from hmr_ros.body import load_body
from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation import held_out, scores as scoring
from hmr_ros.evaluation.breakdowns import GROUPS
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.held_out import crops_of, draw_samples, MeanPose, truth_of
from hmr_ros.evaluation.metrics import LIMB_JOINTS, mean_percent, pck_hits, torso_size
from hmr_ros.evaluation.prediction import coarsened, Crops, predict, Predictions
from hmr_ros.evaluation.real_people import read_labels, read_pictures, RealPerson
from hmr_ros.evaluation.scores import MAIN, Scores, THRESHOLDS
from hmr_ros.evaluation.sequences import evaluate_sequences
from hmr_ros.evaluation.subject import ASSUMED_FOV_DEG, Subject
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import crop_person, CropTransform
from hmr_ros.perception.skeleton import JOINT_NAMES
from hmr_ros.runtime import Engine, load_engine
from hmr_ros.training.synthetic import CLEAN, Recipe, SyntheticPeople

#: sides in pixels to which the clean crops are coarsened, too.
COARSE = (64, 32)
#: sequences, of 32 frames, for each held-out person.
SEQUENCES_SHARE = 0.01
_CHUNK = 32


def run_evaluation(
        engine: str | Engine = 'keypoint_guided', samples: int = 2000,
        real: str | Path | None = None, out: str | Path | None = None, threads: int = 0,
        console: Console | None = None) -> dict[str, Any]:
    """
    Evaluate an engine and return the report of `hmr evaluate keypoint_guided`.

    engine   a loaded engine, its name in the manifest, or a path
    samples  held-out synthetic people
    real     folder of the labelled pictures (Debian's opencv-doc), or None
    out      folder for report.json, plots and pictures, or None
    threads  cores of an engine given by name; 0 lets the backend choose

    Raises EvaluationError for unusable pictures, EngineError for an unusable engine.
    """
    if samples < 1:
        raise EvaluationError(f'samples is {samples}; expected 1 or more')
    console = console or Console()
    surroundings = context()
    body = load_body()
    if isinstance(engine, str):
        engine = load_engine(engine, threads=threads)
    subject = Subject.of(engine, body)
    with Progress(console=console) as progress:
        task = progress.add_task('Mean pose', total=None)
        mean = held_out.mean_pose(body)
        progress.update(task, description='Held-out people (rendered once)')
        store = held_out.held_out_store(body, samples)
        progress.remove_task(task)
        size = subject.settings.image_size
        clean = held_out.held_out_people(store, size, CLEAN)
        report, all_scores = _synthetic(
            subject, clean, mean, (size, *COARSE), progress, 'clean')
        augmented, _ = _synthetic(
            subject, held_out.held_out_people(store, size, Recipe()), mean, (size,), progress,
            'augmented')
        del augmented['by_resolution']
        sequences = evaluate_sequences(
            subject, max(1, round(samples * SEQUENCES_SHARE)), progress=progress)
    real_result = evaluate_real(subject, real, mean) if real is not None else None
    report = {
        'network': 'keypoint_guided', 'engine': {
            key: getattr(engine, key) for key in ('name', 'backend', 'precision', 'sha256')},
        'dataset': f'synthetic held-out people, seed {held_out.SEED}, no augmentation', **report,
        'augmented': augmented, 'sequences': sequences,
        **({'real': real_result.report} if real_result else {}),
        **surroundings}
    show(report, console)
    if out is not None:
        _write(Path(out), report, subject, clean, all_scores, real_result)
        console.print(f'wrote report.json, plots and pictures to {out}')
    return report


def _synthetic(
        subject: Subject, people: SyntheticPeople, mean: MeanPose, sizes: Sequence[int],
        progress: Progress, name: str) -> tuple[dict[str, Any], dict[int, Scores]]:
    task = progress.add_task(f'Synthetic people, {name}', total=len(people) * len(sizes))
    by_size, baseline = measure(subject, people, mean, sizes, progress, task)
    full = by_size[sizes[0]]
    base = scoring.summary(baseline)
    rows = [{'pixels': size, **scoring.summary(one)} for size, one in by_size.items()]
    return {
        **scoring.summary(full),
        'mean_pose': {
            'mpjpe_mm': base['mpjpe_mm'], 'pa_mpjpe_mm': base['pa_mpjpe_mm'],
            'oks_ap': base['oks_ap'],
            'pck': {key: base['pck'][key] for key in ('limbs', 'all', 'limbs_seen')}},
        'per_joint': scoring.per_joint(full), 'by_resolution': rows,
        'by_group': {name: scoring.by_group(full, name) for name in GROUPS},
        'reliability': scoring.reliability(
            full.confidence[:, LIMB_JOINTS], full.keypoint_hits[MAIN][:, LIMB_JOINTS])}, by_size


def measure(
        subject: Subject, people: SyntheticPeople, mean: MeanPose, sizes: Sequence[int],
        progress: Progress, task: TaskID) -> tuple[dict[int, Scores], Scores]:
    """Score every person of a store once at each of `sizes`, and the mean pose beside them."""
    parts: dict[int, list[Scores]] = {size: [] for size in sizes}
    baseline = []
    for first in range(0, len(people), _CHUNK):
        samples = draw_samples(people, np.arange(first, min(first + _CHUNK, len(people))))
        crops = crops_of(samples)
        truth = truth_of(samples, crops)
        baseline.append(scoring.score_mean_pose(mean, truth, crops.transforms))
        for size in sizes:
            coarse = Crops(coarsened(crops.images, size), crops.transforms, crops.cameras)
            predictions = predict(subject.engine, subject.body, subject.settings, coarse)
            # Meshes cost as much as the rest together; once is enough.
            meshed = subject.body if size == sizes[0] else None
            parts[size].append(scoring.score(predictions, truth, meshed))
            progress.advance(task, len(crops.images))
    return {size: Scores.join(part) for size, part in parts.items()}, Scores.join(baseline)


@dataclass(frozen=True)
class RealResult:
    """Report, people, their crops and predictions, and hits (N, 12) at 0.2 of the torso."""

    report: dict[str, Any]
    people: list[RealPerson]
    crops: Crops
    predictions: Predictions
    hits: np.ndarray


def evaluate_real(subject: Subject, folder: str | Path, mean: MeanPose) -> RealResult:
    """Evaluate on the labelled people whose pictures `folder` holds; PCK only, seen joints."""
    pictures, missing = read_pictures(folder, read_labels())
    people = [person for picture in pictures for person in picture.people]
    crops = _real_crops(subject, pictures)
    predictions = predict(subject.engine, subject.body, subject.settings, crops)
    true = np.stack([person.joints for person in people])
    seen = np.stack([person.seen for person in people])
    layout = np.full((len(people), 24, 2), np.nan)
    layout[:, LIMB_JOINTS] = true
    torso = torso_size(layout)
    found = {'body': predictions.joints2d, 'keypoints': predictions.keypoints2d,
             'mean_pose': mean.pixels(crops.transforms)}
    hits = {name: pck_hits(points[:, LIMB_JOINTS], true, torso, THRESHOLDS, seen)
            for name, points in found.items()}
    files = [person.file for person in people]
    main = hits['body'][MAIN]
    joints = mean_percent(main, axis=0)
    report = {
        'people': len(people), 'joints': int(seen.sum()), 'missing_files': missing,
        'pck': {'limbs': scoring.percent(main),
                'keypoints_limbs': scoring.percent(hits['keypoints'][MAIN])},
        'pck_curve': scoring.curve(hits['body']),
        'mean_pose': {'pck': {'limbs': scoring.percent(hits['mean_pose'][MAIN])}},
        'reliability': scoring.reliability(
            predictions.confidence[:, LIMB_JOINTS], hits['keypoints'][MAIN], groups=5),
        'per_joint': {JOINT_NAMES[j]: {'pck': float(joints[i])}
                      for i, j in enumerate(LIMB_JOINTS)},
        'by_file': {name: {'people': files.count(name), 'pck': scoring.percent(
            main[[file == name for file in files]])} for name in dict.fromkeys(files)}}
    return RealResult(report, people, crops, predictions, main)


def _real_crops(subject: Subject, pictures: Sequence[Any]) -> Crops:
    images, transforms, cameras = [], [], []
    for picture in pictures:
        height, width = picture.image.shape[:2]
        for person in picture.people:
            transform = CropTransform.from_box(person.box, subject.settings.image_size)
            images.append(crop_person(picture.image, 'bgr', transform))
            transforms.append(transform)
            cameras.append(Camera.from_fov(width, height, ASSUMED_FOV_DEG))
    return Crops(np.stack(images), transforms, cameras)


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as tables."""
    rows = [('clean', report), ('  mean pose', report['mean_pose']),
            ('augmented', report['augmented']),
            ('  mean pose', report['augmented']['mean_pose'])]
    rows += [(f'clean at {row["pixels"]} px', row) for row in report['by_resolution'][1:]]
    if 'real' in report:
        rows += [(f'real, {report["real"]["people"]} people', report['real']),
                 ('  mean pose', report['real']['mean_pose'])]
    table = Table(
        title=f'{report["engine"]["name"]}: {report["samples"]} held-out people',
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0),
        caption='PCK at 0.2 of the torso in percent, errors in mm; seen: limbs that nothing hides; '
                'raw: limbs before inverse kinematics')
    columns = ('PCK\nlimbs', 'PCK\nseen', 'PCK\nall 24', 'PCK\nraw', 'OKS-\nAP', 'MPJPE',
               'PA-\nMPJPE', 'MPVPE', 'PA-\nMPVPE')
    for name in ('', *columns):
        table.add_column(name, justify='right' if name else 'left', no_wrap=True)
    for name, row in rows:
        found = row['pck']
        values = [found.get(key) for key in ('limbs', 'limbs_seen', 'all', 'keypoints_limbs')]
        values += [row.get(key) for key in (
            'oks_ap', 'mpjpe_mm', 'pa_mpjpe_mm', 'mpvpe_mm', 'pa_mpvpe_mm')]
        table.add_row(name, *('' if value is None else f'{value:.1f}' for value in values))
    console.print(table)
    console.print(_joint_table(report))
    steady = report['sequences']
    console.print(
        f'{steady["sequences"]} sequences, {steady["rate_hz"]:g} Hz: acceleration error '
        f'{steady["acceleration_error_mm"]:.1f} mm per frame^2 (predicted '
        f'{steady["acceleration_mm"]:.1f}, true {steady["true_acceleration_mm"]:.1f})')


def _joint_table(report: dict[str, Any]) -> Table:
    table = Table(title='By joint')
    real = report.get('real', {}).get('per_joint', {})
    for name in ('', 'PCK@0.2', 'augmented', 'real', 'MPJPE mm', 'PA-MPJPE mm'):
        table.add_column(name, justify='right' if name else 'left')
    for name, row in report['per_joint'].items():
        values = [row['pck'], report['augmented']['per_joint'][name]['pck'],
                  real.get(name, {}).get('pck'), row['mpjpe_mm'], row['pa_mpjpe_mm']]
        table.add_row(name, *('' if value is None else f'{value:.1f}' for value in values))
    return table


def _write(
        out: Path, report: dict[str, Any], subject: Subject, people: SyntheticPeople,
        by_size: dict[int, Scores], real: RealResult | None) -> None:
    from hmr_ros.evaluation import pages, plots
    out.mkdir(parents=True, exist_ok=True)
    write_json(report, out / 'report.json')
    plots.error_by_joint(report, out / 'error_by_joint.png')
    plots.pck_curves(report, out / 'pck.png')
    plots.breakdowns(report, out / 'breakdowns.png')
    plots.reliability(report, out / 'reliability.png')
    errors = by_size[subject.settings.image_size].aligned.mean(axis=1)
    chosen = pages.best_median_worst(errors)
    samples = draw_samples(people, chosen)
    crops = crops_of(samples)
    predictions = predict(subject.engine, subject.body, subject.settings, crops)
    pages.synthetic_page(
        crops, truth_of(samples, crops).joints2d, predictions.joints2d, errors[chosen],
        out / 'best_median_worst.jpg')
    if real is not None:
        pages.real_page(
            real.crops, np.stack([person.joints for person in real.people]),
            real.predictions.joints2d, real.hits, out / 'real_people.jpg')
