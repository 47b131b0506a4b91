# SPDX-License-Identifier: Apache-2.0
"""How good an engine is on people of a published dataset that the user holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
import itertools
import re
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from hmr_ros.evaluation import metrics
from hmr_ros.evaluation.datasets.people import LabelledPerson, Pictures
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.metrics import LIMB_JOINTS
from hmr_ros.evaluation.oks import AREA_OF_BOX, average_precision, oks
from hmr_ros.evaluation.prediction import Crops, predict, Predictions
from hmr_ros.evaluation.scores import MAIN, percent, THRESHOLDS
from hmr_ros.evaluation.subject import ASSUMED_FOV_DEG, Subject
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import crop_person, CropTransform

Row = TypeVar('Row')
_CHUNK = 32
#: joints that a similarity cannot be found without.
_LEAST_JOINTS = 4
#: COCO's own 17 keypoints from here on are the limb joints, in the order of LIMB_JOINTS.
_COCO_LIMBS_FROM = 5


@dataclass
class _Found:
    """What is gathered person by person; lists of numbers or arrays."""

    errors: list[float] = field(default_factory=list)
    aligned: list[float] = field(default_factory=list)
    hits: list[np.ndarray] = field(default_factory=list)
    oks: list[float] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    #: (frame, predicted, true) joints of each person of each recording.
    tracks: dict[tuple[str, str], list[tuple[int, np.ndarray, np.ndarray]]] = field(
        default_factory=lambda: defaultdict(list))


def evaluate_dataset(
        subject: Subject, people: Iterable[LabelledPerson], limit: int | None = None,
        console: Console | None = None) -> dict[str, Any]:
    """
    Evaluate on `people`, at most `limit` of them; numbers that the labels do not allow are absent.

    MPJPE and PA-MPJPE in mm over the SMPL joints that a person has labels for, relative to the
    pelvis; PCK@0.2 of the torso and OKS-AP of the limb joints; acceleration error in mm per
    frame^2 over runs of consecutive frames. Raises EvaluationError when there is nobody.
    """
    found, count = _Found(), 0
    columns = (TextColumn('{task.description}'), TextColumn('{task.completed} people'),
               TimeElapsedColumn())
    with Pictures() as pictures, Progress(*columns, console=console) as progress:
        task = progress.add_task('Evaluating', total=limit)
        for part in chunks(itertools.islice(people, limit), _CHUNK):
            crops = _crops(subject, part, pictures)
            predictions = predict(subject.engine, subject.body, subject.settings, crops)
            for i, person in enumerate(part):
                _add(found, person, predictions, i)
            count += len(part)
            progress.advance(task, len(part))
    if not count:
        raise EvaluationError('the dataset has nobody to evaluate on; check folder and split')
    return {'samples': count, **_numbers(found)}


def chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """Take `size` rows at a time, the last time those that are left."""
    while part := list(itertools.islice(rows, size)):
        yield part


def _crops(subject: Subject, people: list[LabelledPerson], pictures: Pictures) -> Crops:
    images, transforms, cameras = [], [], []
    for person in people:
        picture = pictures.read(person)
        height, width = picture.shape[:2]
        transform = CropTransform.from_box(person.box, subject.settings.image_size)
        images.append(crop_person(picture, 'bgr', transform))
        transforms.append(transform)
        cameras.append(person.camera or Camera.from_fov(width, height, ASSUMED_FOV_DEG))
    return Crops(np.stack(images), transforms, cameras)


def _add(found: _Found, person: LabelledPerson, predictions: Predictions, i: int) -> None:
    _add_limbs(found, person, predictions, i)
    known = np.flatnonzero(person.joints3d_weight[:24] > 0)
    if len(known) < _LEAST_JOINTS or known[0] != 0:
        return
    joints, true = predictions.joints3d[i:i + 1, known], person.joints3d[None, known]
    found.errors.append(1000 * metrics.mpjpe(joints, true))
    found.aligned.append(1000 * metrics.pa_mpjpe(joints, true))
    frame = frame_number(person)
    if frame is not None:
        found.tracks[person.sequence, person.person_id].append(
            (frame, joints[0] - joints[0, :1], true[0] - true[0, :1]))


def _add_limbs(found: _Found, person: LabelledPerson, predictions: Predictions, i: int) -> None:
    true, valid = limbs(person)
    area = person.area or AREA_OF_BOX * float(np.prod(person.box[2:] - person.box[:2]))
    joints2d = predictions.joints2d[i:i + 1, LIMB_JOINTS]
    found.oks.append(float(oks(joints2d, true[None], np.array([area]), valid[None])[0]))
    found.confidence.append(float(predictions.confidence[i, LIMB_JOINTS].mean()))
    layout = np.full((1, 24, 2), np.nan)
    layout[0, LIMB_JOINTS[valid]] = true[valid]
    torso = np.fmax.reduce(metrics.torso_diagonals(layout))
    if torso > 0:
        found.hits.append(metrics.pck_hits(joints2d, true[None], torso, THRESHOLDS, valid[None]))


def limbs(person: LabelledPerson) -> tuple[np.ndarray, np.ndarray]:
    """Labelled limb joints (12, 2) in pixels, and which are valid (12,)."""
    if len(person.native2d) == 17:
        rows = person.native2d[_COCO_LIMBS_FROM:]
        return rows[:, :2], rows[:, 2] > 0
    return person.joints2d[LIMB_JOINTS], person.joints2d_weight[LIMB_JOINTS] > 0


def frame_number(person: LabelledPerson) -> int | None:
    """Number of the frame in its recording; of picture files, the last number of their name."""
    if person.frame is not None:
        return person.frame
    digits = re.findall(r'\d+', person.file.stem)
    return int(digits[-1]) if digits else None


def _numbers(found: _Found) -> dict[str, Any]:
    report: dict[str, Any] = {}
    if found.errors:
        report.update(mpjpe_mm=float(np.mean(found.errors)),
                      pa_mpjpe_mm=float(np.mean(found.aligned)))
    if found.hits:
        report['pck'] = {'limbs': percent(np.concatenate(found.hits, axis=1)[MAIN])}
    similarity = np.array(found.oks)
    if np.any(~np.isnan(similarity)):
        report['oks_ap'] = average_precision(similarity, np.array(found.confidence))
    errors = [error for track in found.tracks.values() for error in _accelerations(track)]
    if errors:
        report['acceleration_mm'] = 1000 * float(np.mean(np.concatenate(errors)))
    return report


def _accelerations(
        track: list[tuple[int, np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
    """Acceleration errors of each run of consecutive frames with the same joints."""
    track = sorted(track, key=lambda row: row[0])
    keys = [(row[0] - i, row[1].shape) for i, row in enumerate(track)]
    for _, run in itertools.groupby(zip(keys, track), key=lambda pair: pair[0]):
        rows = [row for _, row in run]
        if len(rows) >= 3:
            yield metrics.acceleration_errors(
                np.stack([row[1] for row in rows]), np.stack([row[2] for row in rows])).ravel()
