# SPDX-License-Identifier: Apache-2.0
"""COCO keypoints in a file of the official structure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hmr_ros.evaluation.datasets import read_dataset
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.skeleton import JOINT_NAMES
import numpy as np
import pytest

NAMES = ('nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow '
         'right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle '
         'right_ankle').split()


def annotation(number: int, **changes: Any) -> dict[str, Any]:
    keypoints = [value for index in range(17) for value in (10 * index, 10 * index + 5, 2)]
    return {'id': number, 'image_id': 139, 'category_id': 1, 'iscrowd': 0, 'num_keypoints': 17,
            'area': 812.5, 'bbox': [2.0, 3.0, 20.0, 40.0], 'keypoints': keypoints,
            'segmentation': [[2, 3, 22, 3, 22, 43]], **changes}


def write(folder: Path, annotations: Any, images: Any = None) -> None:
    (folder / 'annotations').mkdir()
    content = {'info': {}, 'licenses': [], 'categories': [{'id': 1, 'keypoints': NAMES}],
               'images': images or [
                   {'id': 139, 'file_name': '000000000139.jpg', 'width': 640, 'height': 426}],
               'annotations': annotations}
    path = folder / 'annotations' / 'person_keypoints_val2017.json'
    path.write_text(json.dumps(content))


def test_people_have_the_ten_supervised_joints_and_all_raw_keypoints(tmp_path: Path) -> None:
    keypoints = annotation(0)['keypoints']
    keypoints[3 * NAMES.index('left_wrist') + 2] = 1
    knee = 3 * NAMES.index('right_knee')
    keypoints[knee:knee + 3] = 0, 0, 0
    write(tmp_path, [
        annotation(1, keypoints=keypoints), annotation(2, iscrowd=1), annotation(3),
        annotation(4, num_keypoints=0), annotation(5, bbox=[1, 1, 0, 9])])
    people = read_dataset('coco', tmp_path, 'validation')
    first, second = people
    assert people.skipped == {'crowd': 1, 'no labelled keypoint': 1, 'empty box': 1}
    assert first.file == tmp_path / 'val2017' / '000000000139.jpg' and first.frame is None
    assert (first.person_id, second.person_id, first.area) == ('1', '3', 812.5)
    assert first.box.tolist() == [2, 3, 22, 43]
    np.testing.assert_array_equal(first.native2d, np.reshape(keypoints, (17, 3)))
    supervised = {f'{side}_{part}' for side in ('left', 'right')
                  for part in ('knee', 'ankle', 'shoulder', 'elbow', 'wrist')}
    assert {JOINT_NAMES[i] for i in second.joints2d_weight.nonzero()[0]} == supervised
    assert {JOINT_NAMES[i] for i in first.joints2d_weight.nonzero()[0]} == (
        supervised - {'right_knee'})
    for name in supervised:
        index = NAMES.index(name)
        assert second.joints2d[JOINT_NAMES.index(name)].tolist() == [10 * index, 10 * index + 5]
    assert not first.joints3d_weight.any() and first.camera is None


@pytest.mark.parametrize('row, message', [
    (annotation(1, keypoints=[1, 2, 2]), r'val2017.json: field keypoints has shape \(3,\)'),
    (annotation(1, bbox='here'), 'val2017.json: field bbox'),
    (annotation(1, image_id=5), 'annotation 1 is of image_id 5'),
    ({'id': 3}, 'val2017.json: field iscrowd is missing'),
    (17, 'val2017.json: field iscrowd is missing')])
def test_wrong_annotations_are_refused_by_file_and_field(
        row: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path, [row])
    with pytest.raises(EvaluationError, match=message):
        next(read_dataset('coco', tmp_path, 'validation'))


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path, None)
    with pytest.raises(EvaluationError, match='field annotations is a NoneType'):
        next(read_dataset('coco', tmp_path, 'validation'))
    path = tmp_path / 'annotations' / 'person_keypoints_train2017.json'
    for content, message in (('{"images": [', 'cannot be read'), ('[]', 'field images')):
        path.write_text(content)
        with pytest.raises(EvaluationError, match=f'train2017.json.*{message}'):
            next(read_dataset('coco', tmp_path, 'train'))


def test_a_file_without_annotations_yields_nobody(tmp_path: Path) -> None:
    write(tmp_path, [])
    assert list(read_dataset('coco', tmp_path, 'validation')) == []
