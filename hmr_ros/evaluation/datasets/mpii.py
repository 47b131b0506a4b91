# SPDX-License-Identifier: Apache-2.0
"""
MPII Human Pose: mpii_human_pose_v1_u12_1.mat and the folder images.

Networks are compared on a part of the labelled half that HRNet's program lists: annot/valid.json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import io

from hmr_ros.evaluation.datasets.people import LabelledPerson, People
from hmr_ros.evaluation.datasets.reading import array_of, field_of, placed
from hmr_ros.evaluation.errors import EvaluationError

# The release's other half, for which img_train is 0, has no keypoints. `train` is all of the
# labelled one, `validation` the listed part of it.
SPLITS = ('train', 'validation')
LISTED = Path('annot') / 'valid.json'
KEYPOINTS = 16
FILE = 'mpii_human_pose_v1_u12_1.mat'
# Knees, ankles, shoulders, elbows, wrists; as with COCO the hips are left out.
ORDER = {4: 4, 1: 5, 5: 7, 0: 8, 13: 16, 12: 17, 14: 18, 11: 19, 15: 20, 10: 21}
SIZE_OF_SCALE = 200.0


def read(folder: Path, split: str) -> People:
    """
    Read the people of `train`, or of `validation`, which is a part of them.

    The box is objpos +- scale * 200 / 2 pixels; `native2d` (16, 3) holds MPII's own keypoints
    with visibility 0 (no label), 1 (hidden), 2 (visible). People without position or keypoints
    are skipped. Raises EvaluationError, file and field named.
    """
    packed = folder / 'mpii_human_pose_v1_u12_2' / FILE
    path = packed if packed.is_file() else folder / FILE
    if split == 'train':
        return People(lambda skipped: _people(path, folder / 'images', skipped))
    return People(lambda skipped: _listed(
        _people(path, folder / 'images', skipped), folder / LISTED))


def _listed(people: Iterator[LabelledPerson], path: Path) -> Iterator[LabelledPerson]:
    """Yield those whom a list names by their picture and position."""
    try:
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f'{path} cannot be read ({error}); it lists the people of the split validation, as '
            'HRNet\'s program has it. Or choose the split train') from error
    wanted = {(str(field_of(row, 'image', path)), *_whole(array_of(
        field_of(row, 'center', path), (2,), path, 'center') - 1)) for row in rows}
    for person in people:
        if (person.file.name, *_whole(0.5 * (person.box[:2] + person.box[2:]))) in wanted:
            yield person


def _whole(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _people(path: Path, pictures: Path, skipped: Counter[str]) -> Iterator[LabelledPerson]:
    release = _load(path)
    pages = np.atleast_1d(_field(release, 'annolist', path))
    train = np.atleast_1d(_field(release, 'img_train', path))
    if len(pages) != len(train):
        raise EvaluationError(f'{path}: RELEASE.annolist has {len(pages)} entries and img_train '
                              f'{len(train)}, expected as many; is this the official file?')
    for page in pages[train.astype(bool)]:
        picture = pictures / str(_field(_field(page, 'image', path), 'name', path))
        for number, row in enumerate(np.atleast_1d(_field(page, 'annorect', path))):
            reason = _reason_to_skip(row)
            if reason:
                skipped[reason] += 1
            else:
                yield _person(row, number, picture, path)


def _load(path: Path) -> Any:
    try:
        content = io.loadmat(
            path, struct_as_record=False, squeeze_me=True, variable_names=['RELEASE'])
    except Exception as error:  # a damaged file makes the parser raise anything
        raise EvaluationError(
            f'{path} cannot be read ({error}); give the folder that holds MPII\'s annotation '
            'file and the folder images') from error
    if 'RELEASE' not in content:
        raise EvaluationError(f'{path}: variable RELEASE is missing; is this the official file?')
    return content['RELEASE']


def _field(record: Any, name: str, path: Path) -> Any:
    if not hasattr(record, name):
        raise EvaluationError(f'{path}: field {name} is missing; is this the official file?')
    return getattr(record, name)


def _reason_to_skip(row: Any) -> str | None:
    # In the release a field without a value is missing or an empty array.
    if np.size(getattr(row, 'objpos', ())) == 0 or np.size(getattr(row, 'scale', ())) == 0:
        return 'no position or scale'
    if np.size(getattr(getattr(row, 'annopoints', None), 'point', ())) == 0:
        return 'no labelled keypoint'
    return None


def _person(row: Any, number: int, picture: Path, path: Path) -> LabelledPerson:
    position = [_field(row.objpos, axis, path) for axis in 'xy']
    # Matlab counts pixels from 1.
    center = array_of(position, (2,), path, 'objpos') - 1
    half = 0.5 * SIZE_OF_SCALE * float(array_of(row.scale, (), path, 'scale'))
    keypoints = _keypoints(row.annopoints.point, path)
    joints, weight = placed(keypoints[:, :2], keypoints[:, 2] > 0, ORDER)
    return LabelledPerson(
        file=picture, frame=None, sequence=picture.stem, person_id=str(number),
        box=np.concatenate([center - half, center + half]).astype(np.float32),
        joints2d=joints, joints2d_weight=weight,
        joints3d=np.zeros((len(joints), 3), np.float32), joints3d_weight=np.zeros_like(weight),
        native2d=keypoints.astype(np.float32), head=_head(row))


def _head(row: Any) -> np.ndarray | None:
    corners = [np.ravel(getattr(row, name, ())) for name in ('x1', 'y1', 'x2', 'y2')]
    if any(corner.size != 1 for corner in corners):
        return None
    return np.concatenate(corners).astype(np.float32) - 1


def _keypoints(points: Any, path: Path) -> np.ndarray:
    keypoints = np.zeros((KEYPOINTS, 3))
    for point in np.atleast_1d(points):
        index = int(_field(point, 'id', path))
        if not 0 <= index < KEYPOINTS:
            raise EvaluationError(
                f'{path}: annopoints.point.id is {index}, expected 0 to {KEYPOINTS - 1}')
        place = array_of([_field(point, axis, path) for axis in 'xy'], (2,), path, 'point.x, y')
        keypoints[index] = *(place - 1), 2 if _visible(point) else 1
    return keypoints


def _visible(point: Any) -> bool:
    # A number, a digit as text, or nothing: the head's two points are never marked.
    mark = np.ravel(getattr(point, 'is_visible', ()))
    return mark.size == 0 or str(mark[0]) in ('', '1', '1.0')
