# SPDX-License-Identifier: Apache-2.0
"""Pose networks of mgil on COCO and MPII, which the user holds (sheet, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation.coco_ap import Found, keypoint_scores, without_copies
from hmr_ros.evaluation.datasets import coco, LabelledPerson, mpii, read_dataset
from hmr_ros.evaluation.datasets.people import read_image, read_picture
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.mgil_contender import Contender, contender, keypoints_in, LOOKS
from hmr_ros.evaluation.on_dataset import chunks
from hmr_ros.evaluation.pckh import GROUPS, pckh
from hmr_ros.perception import simcc
from hmr_ros.perception.crop_reading import certainty_of
from hmr_ros.perception.crops import CropTransform, usable_box
from hmr_ros.perception.person import PersonBox

_BATCH = 32
#: MPII's boxes lie this much of `scale` too high, in pixels.
_LOWER = 15.0


@dataclass(frozen=True)
class Request:
    """
    What to judge on.

    dataset     coco or mpii
    folder      of its official files
    split       '' for validation of COCO and train, all that is labelled, of MPII
    detections  COCO: file of a detector's results; None: the true boxes
    look        one of `mgil_contender.LOOKS`
    limit       most pictures of COCO or people of MPII
    """

    dataset: str
    folder: Path
    split: str = ''
    detections: Path | None = None
    look: str = 'once'
    limit: int | None = None


def run_evaluation(
        engines: Sequence[str], request: Request, out: str | Path | None = None,
        console: Console | None = None) -> dict[str, Any]:
    """
    Evaluate engines or weights files and return the report of `hmr evaluate mgil --dataset`.

    Raises EvaluationError for another dataset, a network of other keypoints, and files that are
    not there or wrong.
    """
    if request.dataset not in _JUDGES:
        raise EvaluationError(f'dataset {request.dataset!r} has no 2D keypoints that pose networks '
                              f'are judged on; expected one of {", ".join(_JUDGES)}')
    if request.detections is not None and request.dataset != 'coco':
        raise EvaluationError(f'{request.dataset} is judged with its own boxes; leave '
                              'detections out')
    console, surroundings = console or Console(), context()
    names, judge = _JUDGES[request.dataset]
    contenders = [contender(name, names) for name in engines]
    rows = [{'engine': one.name, 'sha256': one.sha256, 'crop': one.size,
             **judge(one, request, console)} for one in contenders]
    report = {
        'network': 'mgil', 'engine': contenders[0].name, 'dataset': request.dataset,
        'boxes': str(request.detections or 'true'), 'look': request.look, 'rows': rows,
        **surroundings}
    show(report, console)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(report, Path(out) / 'report.json')
    return report


def _on_coco(one: Contender, request: Request, console: Console) -> dict[str, Any]:
    """AP and AR on pictures of COCO."""
    annotations = coco.read_annotations(
        request.folder, _split(request, coco.SPLITS, 'validation'))
    boxes = annotations.boxes() if request.detections is None else coco.read_detections(
        request.detections, annotations)
    pictures = list(itertools.islice(annotations.files, request.limit))
    found = {
        picture: found_in(one, read_image(annotations.files[picture]), boxes[picture], request.look)
        for picture in track(pictures, one.name, console=console) if boxes.get(picture)}
    people = {picture: annotations.people[picture] for picture in pictures}
    return {'samples': sum(map(len, found.values())), **keypoint_scores(people, found)}


def found_in(
        one: Contender, image: np.ndarray, boxes: Sequence[PersonBox],
        look: str = 'once') -> list[Found]:
    """
    Find the people in `boxes` of a picture, uint8 BGR `(H, W, 3)`, without copies.

    A person's score is the box's, times the mean of the keypoints'; a box outside the picture has
    nobody in it.
    """
    height, width = image.shape[:2]
    boxes = [box for box in boxes if usable_box(box.box, width, height)]
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    people = []
    for part in chunks(iter(boxes), _BATCH):
        crops = [CropTransform.from_box(box.box, one.size) for box in part]
        points, certain = keypoints_in(one, [rgb] * len(part), crops, LOOKS[look])
        scores = simcc.person_scores(certain, np.array([certainty_of(box) for box in part]))
        people += [Found(row, float(score), crop.side ** 2)
                   for row, score, crop in zip(points, scores, crops)]
    return without_copies(people)


def _on_mpii(one: Contender, request: Request, console: Console) -> dict[str, Any]:
    """PCKh on people of MPII who have a head's box."""
    people = read_dataset('mpii', request.folder, _split(request, mpii.SPLITS, 'train'))
    chosen = itertools.islice((one for one in people if one.head is not None), request.limit)
    found, labelled = [], []
    for part in track(chunks(chosen, _BATCH), one.name, console=console):
        images = [cv2.cvtColor(read_picture(person), cv2.COLOR_BGR2RGB) for person in part]
        crops = [mpii_crop(person, one.size) for person in part]
        found.append(keypoints_in(one, images, crops, LOOKS[request.look])[0])
        labelled += part
    if not labelled:
        raise EvaluationError(
            'the dataset has nobody with a head\'s box to evaluate on; check folder and split')
    labels = np.stack([person.native2d for person in labelled])
    heads = np.stack([person.head for person in labelled])
    # Labels count pixels from 0 here, as predictions do, so neither needs a shift by 1.
    return {'samples': len(labels), 'skipped': dict(people.skipped), **pckh(
        np.concatenate(found), labels[..., :2], heads, labels[..., 2] > 0)}


def mpii_crop(person: LabelledPerson, size: int) -> CropTransform:
    """Crop of `size` pixels around a person of MPII (sheet, section 1)."""
    scale = (person.box[2] - person.box[0]) / mpii.SIZE_OF_SCALE
    return CropTransform.from_box(person.box + np.float32([0, 1, 0, 1]) * _LOWER * scale, size)


#: keypoints of each dataset, and what judges a network on it.
_JUDGES = {'coco': (simcc.COCO_NAMES, _on_coco), 'mpii': (simcc.MPII_NAMES, _on_mpii)}


#: of a report's rows, what the table shows.
_COLUMNS = ('crop', 'samples', 'ap', 'ap50', 'ap75', 'ap_medium', 'ap_large', 'ar', 'head', *GROUPS,
            'mean')


def _split(request: Request, splits: Sequence[str], default: str) -> str:
    split = request.split or default
    if split not in splits:
        raise EvaluationError(f'dataset {request.dataset} has no split {split!r}; expected one of '
                              f'{", ".join(splits)}')
    return split


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as a table."""
    names = [name for name in report['rows'][0] if name in _COLUMNS]
    table = Table(title=f'{report["dataset"]}, boxes: {report["boxes"]}, percent', box=SIMPLE_HEAD)
    for name in ('engine', *names):
        table.add_column(name.replace('_', ' '), justify='left' if name == 'engine' else 'right')
    for row in report['rows']:
        table.add_row(row['engine'], *(
            f'{row[name]:.1f}' if isinstance(row[name], float) else str(row[name])
            for name in names))
    console.print(table)
