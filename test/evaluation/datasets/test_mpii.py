# SPDX-License-Identifier: Apache-2.0
"""MPII in a file of the official structure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hmr_ros.evaluation.datasets import read_dataset
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.skeleton import JOINT_NAMES
import numpy as np
import pytest
from scipy import io

# MPII's own order; None for points that our training leaves out.
NAMES = ('right_ankle', 'right_knee', None, None, 'left_knee', 'left_ankle', None, None, None,
         None, 'right_wrist', 'right_elbow', 'right_shoulder', 'left_shoulder', 'left_elbow',
         'left_wrist')


def structs(rows: list[dict[str, Any]]) -> np.ndarray:
    """A Matlab struct array of one row; every struct has the fields of the first."""
    array = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for index, row in enumerate(rows):
        array[0, index] = tuple(row.values())
    return array


def human(ids: range | list[int] = range(16), **changes: Any) -> dict[str, Any]:
    visible: list[Any] = [1, 0, '1', '0', np.zeros((0, 0)), 1.0, 0.0]
    point = structs([{'x': 11.0 + i, 'y': 101.0 + i, 'id': i, 'is_visible': visible[i % 7]}
                     for i in ids])
    return {'x1': 1, 'y1': 1, 'x2': 9, 'y2': 9, 'annopoints': {'point': point}, 'scale': 1.5,
            'objpos': {'x': 301, 'y': 201}, **changes}


def write(folder: Path, pages: list[Any], train: list[int]) -> None:
    nothing = np.zeros((1, 0))
    annolist = structs([
        {'image': {'name': f'{15 + i:09d}.jpg'}, 'annorect': page, 'frame_sec': nothing}
        for i, page in enumerate(pages)])
    io.savemat(folder / 'mpii_human_pose_v1_u12_1.mat', {'RELEASE': {
        'annolist': annolist, 'img_train': np.array([train]), 'version': '12'}})


def test_people_of_the_training_half(tmp_path: Path) -> None:
    empty = np.zeros((0, 0))
    write(tmp_path, [structs([human(), human([4]), human(scale=empty), human(annopoints=empty)]),
                     structs([human()]), empty, structs([human()])], [1, 0, 1, 1])
    people = read_dataset('mpii', tmp_path, 'train')
    first, second, third = people
    assert people.skipped == {'no position or scale': 1, 'no labelled keypoint': 1}
    assert first.file == tmp_path / 'images' / '000000015.jpg'
    assert third.file.name == '000000018.jpg' and second.person_id == '1'
    # objpos counts from 1, and 1.5 * 200 pixels is the side.
    assert first.box.tolist() == [150, 50, 450, 350]
    assert first.native2d[:7, 2].tolist() == [2, 1, 2, 1, 2, 2, 1]
    supervised = {name for name in NAMES if name}
    assert {JOINT_NAMES[i] for i in first.joints2d_weight.nonzero()[0]} == supervised
    for name in supervised:
        index = NAMES.index(name)
        assert first.joints2d[JOINT_NAMES.index(name)].tolist() == [10 + index, 100 + index]
    assert second.joints2d_weight.nonzero()[0].tolist() == [JOINT_NAMES.index('left_knee')]
    # The head's corners count from 1, too.
    assert first.head.tolist() == [0, 0, 8, 8]


def test_the_validation_split_is_a_list_of_people(tmp_path: Path) -> None:
    other = human(objpos={'x': 40, 'y': 50}, x1=np.zeros((0, 0)))
    write(tmp_path, [structs([human(), other]), structs([human()]), structs([other])], [1, 1, 1])
    (tmp_path / 'annot').mkdir()
    listed = tmp_path / 'annot' / 'valid.json'
    listed.write_text(json.dumps([
        {'image': '000000015.jpg', 'center': [40.0, 50.0], 'scale': 1.5},
        {'image': '000000016.jpg', 'center': [301.0, 201.0], 'scale': 1.5},
        {'image': '000000017.jpg', 'center': [301.0, 201.0], 'scale': 1.5}]))
    found = [(person.file.name, person.person_id, person.head is None)
             for person in read_dataset('mpii', tmp_path, 'validation')]
    assert found == [('000000015.jpg', '1', True), ('000000016.jpg', '0', False)]
    listed.write_text(json.dumps([{'image': '000000015.jpg'}]))
    with pytest.raises(EvaluationError, match='valid.json: field center is missing'):
        next(read_dataset('mpii', tmp_path, 'validation'))
    listed.unlink()
    with pytest.raises(EvaluationError, match='valid.json cannot be read'):
        next(read_dataset('mpii', tmp_path, 'validation'))


@pytest.mark.parametrize('row, message', [
    (human(objpos={'x': 3}), 'field y is missing'),
    (human(scale=np.ones((1, 2))), 'field scale has shape'),
    (human([16]), 'annopoints.point.id is 16')])
def test_wrong_fields_are_refused_by_name(
        row: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path, [structs([row])], [1])
    with pytest.raises(EvaluationError, match=f'u12_1.mat: .*{message}'):
        next(read_dataset('mpii', tmp_path, 'train'))


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'mpii_human_pose_v1_u12_1.mat'
    io.savemat(path, {'OTHER': 1})
    with pytest.raises(EvaluationError, match='variable RELEASE is missing'):
        next(read_dataset('mpii', tmp_path, 'train'))
    write(tmp_path, [structs([human()])], [1, 1])
    with pytest.raises(EvaluationError, match='annolist has 1 entries and img_train 2'):
        next(read_dataset('mpii', tmp_path, 'train'))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(EvaluationError, match='u12_1.mat cannot be read'):
        next(read_dataset('mpii', tmp_path, 'train'))
