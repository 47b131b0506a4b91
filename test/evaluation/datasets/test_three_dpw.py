# SPDX-License-Identifier: Apache-2.0
"""3DPW in files of the official structure."""

from __future__ import annotations

import os
from pathlib import Path
import pickle
from typing import Any

import cv2
from hmr_ros.body import load_body
from hmr_ros.evaluation.datasets import read_dataset, read_picture
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.rotations import axis_angle_to_matrix
import numpy as np
import pytest

FRAMES = 3
MATRIX = np.array([[60.0, 0, 32], [0, 61, 24], [0, 0, 1]])
NAME = 'downtown_walking_00'


@pytest.fixture()
def content(rng: np.random.Generator) -> dict[str, Any]:
    """Two bodies skinned in the world, and a camera that moves around them."""
    body = load_body()
    poses = rng.normal(0, 0.3, (2, FRAMES, 72))
    betas = rng.normal(0, 1, (2, 300))
    trans = rng.uniform(-0.5, 0.5, (2, FRAMES, 3))
    joints = [body.skin(axis_angle_to_matrix(poses[i].reshape(FRAMES, 24, 3)),
                        np.tile(betas[i, :10], (FRAMES, 1)), trans[i])[1][:, :24]
              for i in range(2)]
    places = np.tile(np.eye(4), (FRAMES, 1, 1))
    places[:, :3, :3] = axis_angle_to_matrix(rng.normal(0, 0.5, (FRAMES, 3)) + (np.pi, 0, 0))
    places[:, :3, 3] = 0, 0, 5
    return {
        'sequence': NAME, 'poses': list(poses), 'betas': list(betas), 'trans': list(trans),
        'jointPositions': [array.reshape(FRAMES, 72) for array in joints],
        'cam_intrinsics': MATRIX, 'cam_poses': places,
        'campose_valid': [np.array([1, 1, 1]), np.array([1, 0, 1])], 'genders': ['m', 'f'],
        'poses2d': list(rng.uniform(0, 60, (2, FRAMES, 3, 18))),
        'img_frame_ids': np.arange(0, 2 * FRAMES, 2), 'poses_60Hz': list(poses),
        'texture_maps': [], 'v_template_clothed': [np.zeros((6890, 3))]}


def write(folder: Path, content: Any) -> Path:
    """Write the sequence as Python 2 wrote it, and its pictures; return the .pkl file."""
    path = folder / 'sequenceFiles' / 'test' / f'{NAME}.pkl'
    images = folder / 'imageFiles' / NAME
    for parent in (path.parent, images):
        parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=2))
    for frame in range(FRAMES):
        image = np.full((48, 64, 3), 20 * frame, np.uint8)
        cv2.imwrite(str(images / f'image_{frame:05d}.jpg'), image)
    return path


def test_people_are_in_the_camera_frame(tmp_path: Path, content: dict[str, Any]) -> None:
    """The body posed by the labels has, up to its place, the labelled joints: frames agree."""
    write(tmp_path, content)
    people = read_dataset('3dpw', tmp_path, 'test')
    found = list(people)
    assert [(person.file.name, person.person_id) for person in found] == [
        ('image_00000.jpg', '0'), ('image_00000.jpg', '1'), ('image_00001.jpg', '0'),
        ('image_00002.jpg', '0'), ('image_00002.jpg', '1')]
    assert people.skipped == {'no valid camera pose': 1}
    body = load_body()
    for person in found:
        number, frame = int(person.person_id), int(person.file.stem[-5:])
        _, joints = body.skin(person.rotmats[None], person.betas[None], np.zeros((1, 3)))
        np.testing.assert_allclose(joints[0, :24] - joints[0, 0],
                                   person.joints3d[:24] - person.joints3d[0], atol=1e-4)
        place = content['cam_poses'][frame]
        world = content['jointPositions'][number][frame].reshape(24, 3)
        np.testing.assert_allclose(
            person.joints3d[:24], world @ place[:3, :3].T + place[:3, 3], atol=1e-5)
        assert person.joints3d_weight.tolist() == [1] * 24 + [0] * 5
        np.testing.assert_allclose(
            person.camera.project(person.joints3d[:24]), person.joints2d[:24], atol=1e-3)
        np.testing.assert_allclose(person.native2d.T, content['poses2d'][number][frame], rtol=1e-6)
        assert person.gender == ('male', 'female')[number] and person.sequence == NAME
        assert abs(read_picture(person).mean() - 20 * frame) < 3


def test_text_and_numbers_as_python_2_wrote_them(tmp_path: Path, content: dict[str, Any]) -> None:
    """Python 2's pickles name numpy's old module and hold bytes for text."""
    raw = pickle.dumps({**content, 'sequence': 'SEQUENCE'}, protocol=2)
    raw = raw.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    # A unicode string with a length of four bytes becomes a byte string with a length of one.
    raw = raw.replace(b'X\x08\0\0\0SEQUENCE', b'U' + bytes([len(NAME)]) + NAME.encode())
    raw = raw.replace(b'X\x01\0\0\0m', b'U\x01m')
    assert b'U\x01m' in raw and NAME.encode() in raw
    write(tmp_path, raw)
    person = next(read_dataset('3dpw', tmp_path, 'test'))
    assert person.sequence == NAME and person.gender == 'male'


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ('touch evil',)


def test_pickle_that_runs_code_is_refused(
        tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {**content, 'texture_maps': [Evil()]})
    with pytest.raises(EvaluationError, match=f'{NAME}.pkl is refused.*system'):
        next(read_dataset('3dpw', tmp_path, 'test'))
    assert not (tmp_path / 'evil').exists()


@pytest.mark.parametrize('changes, message', [
    ({'cam_poses': np.eye(4)}, r'field cam_poses has shape \(4, 4\)'),
    ({'cam_poses': np.zeros((0, 4, 4)), 'poses': [], 'jointPositions': [], 'betas': [],
      'poses2d': [], 'campose_valid': [], 'genders': []}, 'cam_poses has no frame'),
    ({'cam_intrinsics': -MATRIX}, 'field cam_intrinsics: .*fx=-60'),
    ({'genders': ['m']}, "fields poses, .*'genders': .1,"),
    ({'genders': ['m', 'x']}, r"field genders\[1\] is 'x'"),
    ({'genders': ['m', ['f']]}, r'field genders\[1\]'),
    ({'poses': 3}, "fields poses, .*'poses': ()"),
    ({'poses': [np.zeros((2, 72))] * 2}, r'field poses\[0\] has shape \(2, 72\)'),
    ({'jointPositions': ['a', 'b']}, r'field jointPositions\[0\] does not hold numbers'),
    ({'betas': [np.zeros(300), np.zeros(4)]}, r'field betas\[1\] has 4 numbers'),
    ({'sequence': 'elsewhere'}, 'elsewhere.image_00000.jpg is not there')])
def test_wrong_fields_are_refused_by_name(
        changes: dict[str, Any], message: str, tmp_path: Path, content: dict[str, Any]) -> None:
    write(tmp_path, {**content, **changes})
    with pytest.raises(EvaluationError, match=message):
        next(read_dataset('3dpw', tmp_path, 'test'))


@pytest.mark.parametrize('field', [
    'sequence', 'poses', 'betas', 'jointPositions', 'cam_intrinsics', 'cam_poses',
    'campose_valid', 'genders', 'poses2d'])
def test_missing_fields_are_refused_by_name(
        field: str, tmp_path: Path, content: dict[str, Any]) -> None:
    del content[field]
    write(tmp_path, content)
    with pytest.raises(EvaluationError, match=f'{NAME}.pkl: field {field} is missing'):
        next(read_dataset('3dpw', tmp_path, 'test'))


@pytest.mark.parametrize('raw', [b'', b'garbage', pickle.dumps([1, 2], protocol=2)])
def test_damaged_pickles_are_refused(raw: bytes, tmp_path: Path) -> None:
    write(tmp_path, raw)
    with pytest.raises(EvaluationError, match=f'{NAME}.pkl is refused'):
        next(read_dataset('3dpw', tmp_path, 'test'))


def test_people_who_cannot_be_seen_are_counted(tmp_path: Path, content: dict[str, Any]) -> None:
    content['cam_poses'][0, 2, 3] = -5
    content['cam_poses'][1, 0, 3] = 90
    content['poses'][0][2, 5] = np.nan
    write(tmp_path, content)
    people = read_dataset('3dpw', tmp_path, 'test')
    assert [person.person_id for person in people] == ['1']
    assert people.skipped == {
        'behind the camera': 2, 'outside the picture': 1, 'no valid camera pose': 1,
        'numbers are not finite': 1}
