# SPDX-License-Identifier: Apache-2.0
"""MPI-INF-3DHP in files of the official structure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hmr_ros.evaluation.datasets import Pictures, read_dataset
from hmr_ros.evaluation.datasets.mpi_inf_3dhp import read_calibration
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.rotations import axis_angle_to_matrix
from hmr_ros.perception.skeleton import JOINT_NAMES
import numpy as np
import pytest
from scipy import io

# MPI-INF-3DHP's own order, from its readme.
NAMES = ('spine3 spine4 spine2 spine pelvis neck head head_top left_clavicle left_shoulder '
         'left_elbow left_wrist left_hand right_clavicle right_shoulder right_elbow right_wrist '
         'right_hand left_hip left_knee left_ankle left_foot left_toe right_hip right_knee '
         'right_ankle right_foot right_toe').split()
SUPERVISED = {0, 4, 5, 7, 8, 12, *range(16, 22)}
MATRIX = np.array([[80, 0, 32, 0], [0, 81, 24, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def write_calibration(path: Path, extrinsics: list[np.ndarray]) -> None:
    text = 'Skeletool Camera Calibration File V1.0\n'
    for index, place in enumerate(extrinsics):
        intrinsic, extrinsic = (' '.join(map(repr, matrix.ravel().tolist()))
                                for matrix in (MATRIX, place))
        text += (f'name          {index}\n  sensor      10 10\n  size        64 48\n'
                 f'  animated    0\n  intrinsic   {intrinsic} \n  extrinsic   {extrinsic} \n'
                 '  radial      0\n')
    path.write_text(text)


def write_annotations(path: Path, points: np.ndarray, pixels: np.ndarray) -> None:
    """Write `(cameras, frames, 28, axes)` as the cells annot3 and annot2."""
    content = {}
    for name, arrays in (('annot3', points), ('annot2', pixels)):
        content[name] = np.empty((len(arrays), 1), object)
        for index, array in enumerate(arrays):
            content[name][index, 0] = array.reshape(len(array), -1)
    io.savemat(path, {**content, 'frames': np.arange(points.shape[1])[:, None]})


@pytest.fixture()
def sequence(tmp_path: Path) -> Path:
    folder = tmp_path / 'S3' / 'Seq2'
    folder.mkdir(parents=True)
    return folder


@pytest.fixture()
def points(sequence: Path, points_before: Callable[[int, int], np.ndarray],
           write_video: Callable[[Path, int], None]) -> np.ndarray:
    """Write two cameras and the second's video; return the joints (2, 3, 28, 3) in metres."""
    points = np.stack([points_before(3, 28) for _ in range(2)])
    pixels = points[..., :2] / points[..., 2:] * (80, 81) + (32, 24)
    place = np.eye(4)
    place[:3, :3], place[:3, 3] = axis_angle_to_matrix(np.array([0.1, 0.5, 0])), (100, 200, 4000)
    write_calibration(sequence / 'camera.calibration', [np.eye(4), place])
    write_annotations(sequence / 'annot.mat', 1000 * points, pixels)
    write_video(sequence / 'imageSequence' / 'video_1.avi', 3)
    return points


def test_joints_land_on_their_pixels_and_frames(tmp_path: Path, points: np.ndarray) -> None:
    people = read_dataset('mpi_inf_3dhp', tmp_path, 'train')
    with Pictures() as pictures:
        for frame, person in enumerate(people):
            assert abs(pictures.read(person).mean() - 20 * frame) < 3
            assert (person.frame, person.sequence) == (frame, 'S3/Seq2/video_1')
            np.testing.assert_allclose(person.native3d, points[1, frame], atol=1e-5)
            labelled = person.joints3d_weight.nonzero()[0]
            assert set(labelled) == SUPERVISED == set(person.joints2d_weight.nonzero()[0])
            np.testing.assert_allclose(person.camera.project(person.joints3d[labelled]),
                                       person.joints2d[labelled], atol=1e-3)
            for joint in labelled:
                theirs = person.native3d[NAMES.index(JOINT_NAMES[joint])]
                np.testing.assert_array_equal(person.joints3d[joint], theirs)
    assert frame == 2 and people.skipped['camera without a video'] == 1


def test_calibration_is_in_metres(sequence: Path, points: np.ndarray) -> None:
    first, second = read_calibration(sequence / 'camera.calibration')
    assert (second.camera.fx, second.camera.cy, second.camera.width) == (80, 24, 64)
    np.testing.assert_allclose(second.extrinsics.to_camera(np.zeros(3)), (0.1, 0.2, 4))
    np.testing.assert_array_equal(first.extrinsics.to_camera(points), points)


def test_people_who_cannot_be_seen_are_counted(
        sequence: Path, tmp_path: Path, points: np.ndarray) -> None:
    pixels = points[..., :2] / points[..., 2:] * (80, 81) + (32, 24)
    points[1, 0, 3, 2], pixels[1, 1], pixels[1, 2, 0, 0] = -1, pixels[1, 1] - 300, np.nan
    write_annotations(sequence / 'annot.mat', 1000 * points, pixels)
    people = read_dataset('mpi_inf_3dhp', tmp_path, 'train')
    assert list(people) == []
    for reason in ('behind the camera', 'outside the picture', 'numbers are not finite'):
        assert people.skipped[reason] == 1


def test_wrong_files_are_refused_by_name(
        sequence: Path, tmp_path: Path, points: np.ndarray) -> None:
    annotations, calibration = sequence / 'annot.mat', sequence / 'camera.calibration'
    text = calibration.read_text()
    pixels = points[..., :2]

    def without(word: str) -> None:
        calibration.write_text(text.replace(word, 'x'))
    for break_it, message in (
            (lambda: write_annotations(annotations, points[:, :, :17], pixels),
             r'field annot3, camera 1 has shape \(3, 51\)'),
            (lambda: write_annotations(annotations, points[:, :2], pixels), 'camera 1 has 3'),
            (lambda: write_annotations(annotations, points[:1], pixels), 'annot3 has 1 entries'),
            (lambda: io.savemat(annotations, {'annot2': 1}), 'annot.mat: field annot3 is missing'),
            (lambda: annotations.write_bytes(b'MATLAB'), 'annot.mat cannot be read'),
            (lambda: without('intrinsic'), 'camera.calibration: field intrinsic is missing'),
            (lambda: without('80.0'), 'field intrinsic does not hold numbers'),
            (lambda: without('name'), 'field name is missing'),
            (lambda: without('Skeletool'), 'first line is not'),
            (lambda: calibration.unlink(), 'camera.calibration cannot be read')):
        break_it()
        with pytest.raises(EvaluationError, match=message):
            next(read_dataset('mpi_inf_3dhp', tmp_path, 'train'))


def test_a_sequence_without_any_video_is_refused(
        sequence: Path, tmp_path: Path, points: np.ndarray) -> None:
    (sequence / 'imageSequence' / 'video_1.avi').unlink()
    with pytest.raises(EvaluationError, match='video_0.avi is not there'):
        next(read_dataset('mpi_inf_3dhp', tmp_path, 'train'))


def test_a_camera_that_cannot_be_is_refused(
        sequence: Path, tmp_path: Path, points: np.ndarray) -> None:
    calibration = sequence / 'camera.calibration'
    calibration.write_text(calibration.read_text().replace('80.0', '-80.0'))
    with pytest.raises(EvaluationError, match='camera.calibration: field intrinsic.*fx=-80'):
        next(read_dataset('mpi_inf_3dhp', tmp_path, 'train'))
