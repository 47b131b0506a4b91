# SPDX-License-Identifier: Apache-2.0
"""COCO keypoints: annotations/person_keypoints_*.json and the pictures beside them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np

from hmr_ros.evaluation.coco_ap import Labelled
from hmr_ros.evaluation.datasets.people import LabelledPerson, People
from hmr_ros.evaluation.datasets.reading import array_of, field_of, placed
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.person import PersonBox

FOLDERS = {'train': 'train2017', 'validation': 'val2017'}
SPLITS = tuple(FOLDERS)
KEYPOINTS = 17
_PERSON = 1
# Knees, ankles, shoulders, elbows, wrists. COCO's hips lie on the outside of the body, the
# skeleton's inside, so they teach nothing; they are in `native2d`.
ORDER = {13: 4, 14: 5, 15: 7, 16: 8, 5: 16, 6: 17, 7: 18, 8: 19, 9: 20, 10: 21}


def read(folder: Path, split: str) -> People:
    """
    Read the people of `train` or `validation` (2017).

    `native2d` (17, 3) holds COCO's own keypoints with visibility 0, 1, 2, and `area` and
    `person_id` (the annotation's id) what an OKS needs. Crowds, people without a labelled
    keypoint and empty boxes are skipped. Raises EvaluationError, file and field named.
    """
    path = _annotations_of(folder, split)
    return People(lambda skipped: _people(path, folder / FOLDERS[split], skipped))


@dataclass(frozen=True)
class Annotations:
    """All that COCO's measure looks at: pictures by their ids, and everybody in each of them."""

    files: dict[int, Path]
    people: dict[int, list[Labelled]]

    def boxes(self) -> dict[int, list[PersonBox]]:
        """Boxes of all who must be found, as from a perfect detector."""
        return {picture: [
            PersonBox(one.box) for one in people
            if not one.need_not_be_found and (one.box[2:] > one.box[:2]).all()]
            for picture, people in self.people.items()}


def read_annotations(folder: Path, split: str) -> Annotations:
    """Read everybody in a split, crowds too. Raises EvaluationError, file and field named."""
    path = _annotations_of(folder, split)
    content = _load(path)
    files = {int(field_of(image, 'id', path)):
             folder / FOLDERS[split] / str(field_of(image, 'file_name', path))
             for image in _rows(content, 'images', path)}
    people: dict[int, list[Labelled]] = {picture: [] for picture in files}
    for row in _rows(content, 'annotations', path):
        people[_known_picture(row, files, path)].append(_labelled(row, path))
    return Annotations(files, people)


def read_detections(path: Path, annotations: Annotations) -> dict[int, list[PersonBox]]:
    """
    Read people that a detector found, in COCO's format of results: by picture.

    Other categories and boxes without a size are left out. Raises EvaluationError, which names the
    file and the field.
    """
    try:
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f'detections {path} cannot be read ({error}); expected a list of image_id, '
            'category_id, bbox and score') from error
    found: dict[int, list[PersonBox]] = defaultdict(list)
    for row in rows:
        if field_of(row, 'category_id', path) == _PERSON:
            box = _box_of(row, path)
            picture = _known_picture(row, annotations.files, path)
            if (box[2:] > box[:2]).all():
                score = float(array_of(field_of(row, 'score', path), (), path, 'score'))
                found[picture].append(PersonBox(box, score))
    return dict(found)


def _labelled(row: dict[str, Any], path: Path) -> Labelled:
    return Labelled(
        _keypoints_of(row, path), _box_of(row, path),
        float(array_of(field_of(row, 'area', path), (), path, 'area')),
        bool(field_of(row, 'iscrowd', path)))


def _keypoints_of(row: dict[str, Any], path: Path) -> np.ndarray:
    return array_of(
        field_of(row, 'keypoints', path), (3 * KEYPOINTS,), path, 'keypoints').reshape(-1, 3)


def _box_of(row: dict[str, Any], path: Path) -> np.ndarray:
    x, y, width, height = array_of(field_of(row, 'bbox', path), (4,), path, 'bbox')
    return np.float32([x, y, x + width, y + height])


def _known_picture(row: dict[str, Any], files: dict[int, Any], path: Path) -> int:
    picture = field_of(row, 'image_id', path)
    if picture not in files:
        raise EvaluationError(
            f'{path}: annotation {row.get("id")} is of image_id {picture}, which is not among '
            'the images; is this the official file?')
    return picture


def _annotations_of(folder: Path, split: str) -> Path:
    return folder / 'annotations' / f'person_keypoints_{FOLDERS[split]}.json'


def _people(path: Path, pictures: Path, skipped: Counter[str]) -> Iterator[LabelledPerson]:
    content = _load(path)
    names = {field_of(image, 'id', path): str(field_of(image, 'file_name', path))
             for image in _rows(content, 'images', path)}
    for row in _rows(content, 'annotations', path):
        reason = _reason_to_skip(row, path)
        if reason:
            skipped[reason] += 1
            continue
        yield _person(row, pictures / names[_known_picture(row, names, path)], path)


def _load(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f'{path} cannot be read ({error}); give the folder that holds COCO\'s annotations '
            'and pictures') from error


def _rows(content: dict[str, Any], field: str, path: Path) -> list[Any]:
    rows = field_of(content, field, path)
    if not isinstance(rows, list):
        raise EvaluationError(f'{path}: field {field} is a {type(rows).__name__}, expected a list')
    return rows


def _reason_to_skip(row: dict[str, Any], path: Path) -> str | None:
    if field_of(row, 'iscrowd', path):
        return 'crowd'
    if not field_of(row, 'num_keypoints', path):
        return 'no labelled keypoint'
    if not array_of(field_of(row, 'bbox', path), (4,), path, 'bbox')[2:].min() > 0:
        return 'empty box'
    return None


def _person(row: dict[str, Any], picture: Path, path: Path) -> LabelledPerson:
    keypoints = _keypoints_of(row, path)
    joints, weight = placed(keypoints[:, :2], keypoints[:, 2] > 0, ORDER)
    return LabelledPerson(
        file=picture, frame=None, sequence=str(row['image_id']),
        person_id=str(field_of(row, 'id', path)),
        box=_box_of(row, path), joints2d=joints, joints2d_weight=weight,
        joints3d=np.zeros((len(joints), 3), np.float32), joints3d_weight=np.zeros_like(weight),
        native2d=keypoints.astype(np.float32), area=float(field_of(row, 'area', path)))
