# SPDX-License-Identifier: Apache-2.0
"""The list of datasets, the person they yield, and pictures of people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
from hmr_ros.evaluation.datasets import (
    DATASETS, LabelledPerson, Pictures, read_dataset, read_picture)
from hmr_ros.evaluation.datasets.reading import array_of, Extrinsics, placed
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.rotations import axis_angle_to_matrix
from hypothesis import given, strategies as st
import numpy as np
import pytest


def person(file: Path, frame: int | None, **changes: np.ndarray) -> LabelledPerson:
    joints = {'box': np.zeros(4), 'joints2d': np.zeros((29, 2)), 'joints2d_weight': np.zeros(29),
              'joints3d': np.zeros((29, 3)), 'joints3d_weight': np.zeros(29),
              'native2d': np.zeros((17, 3))}
    return LabelledPerson(file, frame, 'sequence', '7', **{**joints, **changes})


def test_unknown_names_splits_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match='lsp.*3dpw, coco, human36m, mpi_inf_3dhp, mpii'):
        read_dataset('lsp', tmp_path, 'train')
    with pytest.raises(EvaluationError, match='human36m.*validation.*train, test'):
        read_dataset('human36m', tmp_path, 'validation')
    with pytest.raises(EvaluationError, match='nowhere'):
        read_dataset('coco', tmp_path / 'nowhere', 'train')


@pytest.mark.parametrize('name', DATASETS)
def test_empty_folder_is_refused_by_name_when_read(name: str, tmp_path: Path) -> None:
    for split in DATASETS[name].SPLITS:
        people = read_dataset(name, tmp_path, split)
        with pytest.raises(EvaluationError, match=str(tmp_path)):
            next(people)


@pytest.mark.parametrize('name', DATASETS)
def test_every_order_is_one_to_one(name: str) -> None:
    order = DATASETS[name].ORDER
    assert len(set(order.values())) == len(order) and max(order.values()) < 29


def test_person_with_a_wrong_shape_is_refused_by_file_and_field(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match='a.jpg: joints2d of person 7.*24.*29'):
        person(tmp_path / 'a.jpg', None, joints2d=np.zeros((24, 2)))


def test_frames_are_read_in_any_order(
        tmp_path: Path, write_video: Callable[[Path, int], None]) -> None:
    for name in ('a.avi', 'b.avi'):
        write_video(tmp_path / name, 8)
    with Pictures() as pictures:
        for name, frame in (('a', 3), ('a', 4), ('a', 7), ('a', 2), ('b', 5), ('a', 2), ('a', 2)):
            image = pictures.read(person(tmp_path / f'{name}.avi', frame))
            assert image.shape == (48, 64, 3) and abs(image.mean() - 20 * frame) < 3
        with pytest.raises(EvaluationError, match='a.avi has no frame 8'):
            pictures.read(person(tmp_path / 'a.avi', 8))
        assert abs(pictures.read(person(tmp_path / 'a.avi', 1)).mean() - 20) < 3
    with pytest.raises(EvaluationError, match='c.avi is not there'):
        read_picture(person(tmp_path / 'c.avi', 0))


def test_picture_is_read_as_stored(tmp_path: Path) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 15:, 2] = 255
    _, jpeg = cv2.imencode('.jpg', image)
    # The shortest EXIF block that asks viewers to turn the picture by 90 degrees.
    tag = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    header = b'\xff\xe1' + (len(tag) + 2).to_bytes(2, 'big') + tag
    path = tmp_path / 'turned.jpg'
    path.write_bytes(jpeg.tobytes()[:2] + header + jpeg.tobytes()[2:])
    assert cv2.imread(str(path)).shape == (30, 20, 3)
    assert read_picture(person(path, None)).shape == (20, 30, 3)
    path.write_bytes(b'no picture')
    with pytest.raises(EvaluationError, match='turned.jpg'):
        read_picture(person(path, None))


@given(st.lists(st.floats(-3, 3), min_size=9, max_size=9))
def test_world_to_camera_and_back(numbers: list[float]) -> None:
    turn, move, point = np.reshape(numbers, (3, 3))
    extrinsics = Extrinsics(axis_angle_to_matrix(turn), move)
    there = extrinsics.to_camera(point)
    np.testing.assert_allclose(there, extrinsics.rotation @ point + move, atol=1e-12)
    np.testing.assert_allclose(extrinsics.to_world(there), point, atol=1e-12)


def test_placed_joints_without_a_label_are_zero() -> None:
    points = np.arange(8, dtype=float).reshape(4, 2) + 1
    joints, weights = placed(points, np.array([1, 0, 1, 1]), {0: 20, 1: 4, 3: 7})
    assert weights.nonzero()[0].tolist() == [7, 20]
    assert joints[20].tolist() == [1, 2] and joints[7].tolist() == [7, 8]
    assert np.abs(joints).sum() == 18


@pytest.mark.parametrize('value', ['text', [[1, 2], [3]], None, {'a': 1}])
def test_fields_without_numbers_are_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match='some.pkl: field poses'):
        array_of(value, (2,), tmp_path / 'some.pkl', 'poses')
