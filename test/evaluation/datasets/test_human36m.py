# SPDX-License-Identifier: Apache-2.0
"""Human3.6M in files of the official structure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import sys

from hmr_ros.evaluation.datasets import Pictures, read_dataset
from hmr_ros.evaluation.datasets.human36m import read_cameras
from hmr_ros.evaluation.datasets.reading import project
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.skeleton import JOINT_NAMES
import numpy as np
import pytest

cdfwrite = pytest.importorskip('cdflib.cdfwrite', reason='cdflib is not installed')

CAMERAS = ('54138969', '55011271', '58860488', '60457274')
# Human3.6M's indices of the joints it shares with SMPL.
NAMED = {0: 'pelvis', 1: 'right_hip', 2: 'right_knee', 3: 'right_ankle', 6: 'left_hip',
         7: 'left_knee', 8: 'left_ankle', 13: 'neck', 17: 'left_shoulder', 18: 'left_elbow',
         19: 'left_wrist', 25: 'right_shoulder', 26: 'right_elbow', 27: 'right_wrist'}
ANGLES, POSITION = (1.8, -0.05, 0.6), (1000.0, 5000.0, 1500.0)
# Focal lengths and centre suit 64 x 48 pixels; the lens is that of a camera of the release.
LENS = (80.0, 81.0, 32.0, 24.0, -0.2, 0.24, -0.002, -0.0009, -0.0014)


def official_projection(points: np.ndarray) -> np.ndarray:
    """Project as the release's own Matlab program does."""
    f, c, k, p = np.split(np.array(LENS), (2, 4, 7))
    xy = points[..., :2] / points[..., 2:]
    r2 = (xy ** 2).sum(-1, keepdims=True)
    radial = 1 + k[0] * r2 + k[1] * r2 ** 2 + k[2] * r2 ** 3
    tangential = p[0] * xy[..., 1:] + p[1] * xy[..., :1]
    return f * (xy * (radial + tangential) + p[::-1] * r2) + c


def write_metadata(path: Path, numbers: int = 300) -> None:
    w0 = np.arange(300.0)
    # Camera 2 of subject 5, and the second lens.
    w0[6 * (11 + 4):][:6] = *ANGLES, *POSITION
    w0[264 + 9:][:9] = LENS
    names = ''.join(f'<i{i}>{name}</i{i}>' for i, name in enumerate(CAMERAS))
    path.write_text(
        f'<metadata><dbcameras><index2id>{names}</index2id></dbcameras>'
        f'<w0>[{" ".join(map(repr, w0[:numbers].tolist()))}]</w0></metadata>')


def write_pose(path: Path, pose: np.ndarray, name: str = 'Pose') -> None:
    """Write `(frames, 32, axes)` as one record, as the release does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    rows = pose.reshape(1, len(pose), -1).astype(np.float32)
    file = cdfwrite.CDF(str(path), cdf_spec={'Majority': 'row_major'})
    file.write_var({'Variable': name, 'Data_Type': 44, 'Num_Elements': 1, 'Rec_Vary': True,
                    'Dim_Sizes': list(rows.shape[1:])}, var_data=rows)
    file.close()


@pytest.fixture()
def points(tmp_path: Path, points_before: Callable[[int, int], np.ndarray],
           write_video: Callable[[Path, int], None]) -> np.ndarray:
    """Write S5 with one recording of three frames; return the joints in metres."""
    points = points_before(3, 32)
    poses = tmp_path / 'S5' / 'MyPoseFeatures'
    write_metadata(tmp_path / 'metadata.xml')
    write_pose(poses / 'D3_Positions_mono' / 'Walking 1.55011271.cdf', 1000 * points)
    write_pose(poses / 'D3_Positions_mono' / '_ALL.55011271.cdf', 1000 * points)
    write_pose(poses / 'D2_Positions' / 'Walking 1.55011271.cdf', official_projection(points))
    write_video(tmp_path / 'S5' / 'Videos' / 'Walking 1.55011271.mp4', 3)
    return points


def test_joints_land_on_their_pixels_and_frames(tmp_path: Path, points: np.ndarray) -> None:
    people = read_dataset('human36m', tmp_path, 'train')
    with Pictures() as pictures:
        for frame, person in enumerate(people):
            assert abs(pictures.read(person).mean() - 20 * frame) < 5
            assert (person.frame, person.subject) == (frame, 'S5')
            assert person.sequence == 'S5/Walking 1.55011271'
            np.testing.assert_allclose(person.native3d, points[frame], atol=1e-5)
            for theirs, name in NAMED.items():
                ours = JOINT_NAMES.index(name)
                assert person.joints3d_weight[ours] == person.joints2d_weight[ours] == 1
                np.testing.assert_array_equal(person.joints3d[ours], person.native3d[theirs])
            labelled = person.joints2d_weight > 0
            assert labelled.sum() == len(NAMED) + 1 and labelled[24]
            pixels = project(person.joints3d[labelled], person.camera, person.distortion)
            np.testing.assert_allclose(pixels, person.joints2d[labelled], atol=0.02)
            assert np.all(person.box[:2] < person.native2d[:, :2].min(axis=0))
            assert np.all(person.box[2:] > person.native2d[:, :2].max(axis=0))
    assert frame == 2 and (person.camera.width, person.camera.height) == (64, 48)
    assert people.skipped['subject not in the folder'] == 4


def test_camera_stands_where_the_metadata_says(tmp_path: Path) -> None:
    write_metadata(tmp_path / 'metadata.xml')
    cameras = read_cameras(tmp_path / 'metadata.xml')
    assert len(cameras) == 44
    extrinsics = cameras['S5', '55011271'].extrinsics
    np.testing.assert_allclose(extrinsics.to_camera(np.array(POSITION) / 1000), 0, atol=1e-12)
    np.testing.assert_allclose(extrinsics.rotation @ extrinsics.rotation.T, np.eye(3), atol=1e-12)
    # The release's cameras stand upright: the world's up is the picture's up, -y.
    assert extrinsics.rotation[1, 2] < -0.9
    np.testing.assert_allclose(cameras['S1', '55011271'].distortion, np.float32(LENS)[
        [4, 5, 7, 8, 6]])


def test_people_who_cannot_be_seen_are_counted(tmp_path: Path, points: np.ndarray) -> None:
    poses = tmp_path / 'S5' / 'MyPoseFeatures'
    pixels = official_projection(points)
    points[0, 3, 2], pixels[1] = -1, pixels[1] + 500
    write_pose(poses / 'D3_Positions_mono' / 'Walking 1.55011271.cdf', 1000 * points)
    write_pose(poses / 'D2_Positions' / 'Walking 1.55011271.cdf', pixels)
    people = read_dataset('human36m', tmp_path, 'train')
    assert [person.frame for person in people] == [2]
    assert people.skipped['behind the camera'] == people.skipped['outside the picture'] == 1


def test_wrong_files_are_refused_by_name(tmp_path: Path, points: np.ndarray) -> None:
    poses = tmp_path / 'S5' / 'MyPoseFeatures'
    solid, flat = (poses / kind / 'Walking 1.55011271.cdf'
                   for kind in ('D3_Positions_mono', 'D2_Positions'))
    video = tmp_path / 'S5' / 'Videos' / 'Walking 1.55011271.mp4'
    for break_it, message in (
            (lambda: video.unlink(), 'mp4 is not there'),
            (lambda: write_pose(flat, points[:2, :, :2]), 'Pose has 2 frames, expected 3'),
            (lambda: flat.unlink(), 'D2_Positions.* is not there'),
            (lambda: write_pose(solid, points[:, :17]), r'field Pose has shape \(3, 51\)'),
            (lambda: write_pose(solid, points, 'Angles'), 'field Pose cannot be read'),
            (lambda: solid.write_bytes(solid.read_bytes()[:100]), 'field Pose cannot be read'),
            (lambda: solid.rename(solid.with_name('Walking.cdf')), 'not a camera of metadata'),
            (lambda: write_metadata(tmp_path / 'metadata.xml', 299), 'field w0 has shape'),
            (lambda: (tmp_path / 'metadata.xml').write_text('<metadata/>'), 'index2id has 0'),
            (lambda: (tmp_path / 'metadata.xml').write_text('<meta'), 'metadata.xml cannot be')):
        break_it()
        with pytest.raises(EvaluationError, match=message):
            next(read_dataset('human36m', tmp_path, 'train'))


def test_without_cdflib_the_remedy_is_named(
        tmp_path: Path, points: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'cdflib', None)
    with pytest.raises(EvaluationError, match='pip install cdflib'):
        next(read_dataset('human36m', tmp_path, 'train'))
