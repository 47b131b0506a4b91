# SPDX-License-Identifier: Apache-2.0
"""Human3.6M in its official files: CDF poses, MP4 videos, cameras in metadata.xml."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from hmr_ros.evaluation.datasets.people import LabelledPerson, People, video_size
from hmr_ros.evaluation.datasets.reading import array_of, box_around, defect, Extrinsics, placed
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.camera import Camera

SUBJECTS = {'train': ('S1', 'S5', 'S6', 'S7', 'S8'), 'test': ('S9', 'S11')}
SPLITS = tuple(SUBJECTS)
NATIVE_JOINTS = 32
# The release counts 11 subjects and 4 cameras, whatever part of them a user holds.
ALL_SUBJECTS, ALL_CAMERAS = 11, 4
# Joints at the same place of the body as ours, by Human3.6M's index; its spine, feet and hands
# are markers of another skeleton and are left to `native3d`.
ORDER = {0: 0, 6: 1, 1: 2, 7: 4, 2: 5, 8: 7, 3: 8, 13: 12, 17: 16, 25: 17, 18: 18, 26: 19,
         19: 20, 27: 21, 15: 24}
# The release itself lacks this film.
MISSING_VIDEOS = {('S11', 'Directions.54138969')}


@dataclass(frozen=True, eq=False)
class LensCamera:
    """
    A camera of Human3.6M: where it stands, focal (2,) and center (2,) in pixels, and lens.

    `distortion` (5,) is k1, k2, p1, p2, k3 in OpenCV's order. The release's own projection leaves
    out a factor of 2 of the terms with p1 and p2: less than a pixel, even in a picture's corner.
    """

    extrinsics: Extrinsics
    focal: np.ndarray
    center: np.ndarray
    distortion: np.ndarray


def read(folder: Path, split: str) -> People:
    """
    Read the people of `train` (S1, S5, S6, S7, S8) or `test` (S9, S11), one for each frame.

    `folder` holds metadata.xml (or Release-*/metadata.xml) and for each subject
    MyPoseFeatures/D3_Positions_mono, MyPoseFeatures/D2_Positions and Videos. The files have no
    body parameters, so `rotmats` and `betas` are None. Subjects and one film that are not there
    are counted as skipped. Raises EvaluationError, file and field named, also when the library
    cdflib is not installed.
    """
    return People(lambda skipped: _people(folder, SUBJECTS[split], skipped))


def read_cameras(path: Path) -> dict[tuple[str, str], LensCamera]:
    """Read the cameras of metadata.xml by subject and camera name, ('S1', '54138969')."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise EvaluationError(
            f'{path} cannot be read ({error}); copy metadata.xml of the Human3.6M release into '
            'the folder') from error
    names = [element.text for element in root.findall('dbcameras/index2id/*')]
    if len(names) != ALL_CAMERAS:
        raise EvaluationError(f'{path}: field dbcameras/index2id has {len(names)} entries, '
                              f'expected {ALL_CAMERAS}; is this the official file?')
    placements = 6 * ALL_SUBJECTS * ALL_CAMERAS
    numbers = array_of((root.findtext('w0') or '').strip().strip('[]').split(),
                       (placements + 9 * ALL_CAMERAS,), path, 'w0')
    places = numbers[:placements].reshape(ALL_CAMERAS, ALL_SUBJECTS, 6)
    lenses = numbers[placements:].reshape(ALL_CAMERAS, 9)
    return {(f'S{1 + subject}', name): _camera(places[index, subject], lenses[index])
            for index, name in enumerate(names) for subject in range(ALL_SUBJECTS)}


def _camera(place: np.ndarray, lens: np.ndarray) -> LensCamera:
    """Camera from three angles and a position in millimetres, and f, c, k1 k2 k3, p1 p2."""
    (a, b, c), position = place[:3], place[3:] / 1000
    around_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    around_y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    around_z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    rotation = np.array(around_x) @ around_y @ around_z
    return LensCamera(Extrinsics(rotation, -rotation @ position), lens[:2], lens[2:4],
                      lens[[4, 5, 7, 8, 6]].astype(np.float32))


def _people(folder: Path, subjects: tuple[str, ...],
            skipped: Counter[str]) -> Iterator[LabelledPerson]:
    releases = sorted(folder.glob('Release-*/metadata.xml'))
    cameras = read_cameras([folder / 'metadata.xml', *releases][-1])
    present = [subject for subject in subjects if (folder / subject).is_dir()]
    if not present:
        raise EvaluationError(f'folder {folder} has none of the subjects {", ".join(subjects)}')
    skipped['subject not in the folder'] += len(subjects) - len(present)
    for subject in present:
        poses = folder / subject / 'MyPoseFeatures' / 'D3_Positions_mono'
        files = [path for path in sorted(poses.glob('*.cdf')) if not path.name.startswith('_ALL')]
        if not files:
            raise EvaluationError(f'folder {poses} has no CDF file; unpack the poses of {subject}')
        for path in files:
            if (subject, path.stem) in MISSING_VIDEOS:
                skipped['film not in the release'] += 1
            else:
                yield from _recording(path, folder / subject, cameras, skipped)


def _recording(path: Path, subject: Path, cameras: dict[tuple[str, str], LensCamera],
               skipped: Counter[str]) -> Iterator[LabelledPerson]:
    lens = cameras.get((subject.name, path.stem.split('.')[-1]))
    if lens is None:
        raise EvaluationError(f'{path}: the name\'s end is not a camera of metadata.xml, '
                              'for example Walking.54138969.cdf')
    points = _read_cdf(path, 3) / 1000
    flat = path.parents[1] / 'D2_Positions' / path.name
    pixels = _read_cdf(flat, 2)
    if len(points) != len(pixels):
        raise EvaluationError(
            f'{flat}: field Pose has {len(pixels)} frames, expected {len(points)} as in {path}')
    video = subject / 'Videos' / f'{path.stem}.mp4'
    camera = Camera(*lens.focal, *lens.center, *video_size(video))
    for frame in range(len(points)):
        reason = defect(points[frame], pixels[frame], camera)
        if reason:
            skipped[reason] += 1
        else:
            yield _person(points[frame], pixels[frame], video, frame, camera, lens)


def _person(points: np.ndarray, pixels: np.ndarray, video: Path, frame: int, camera: Camera,
            lens: LensCamera) -> LabelledPerson:
    subject = video.parents[1].name
    joints2d, weight2d = placed(pixels, 1, ORDER)
    joints3d, weight3d = placed(points, 1, ORDER)
    return LabelledPerson(
        file=video, frame=frame, sequence=f'{subject}/{video.stem}', person_id=subject,
        box=box_around(pixels), joints2d=joints2d, joints2d_weight=weight2d, joints3d=joints3d,
        joints3d_weight=weight3d,
        native2d=np.c_[pixels, np.ones(len(pixels))].astype(np.float32),
        native3d=points.astype(np.float32), camera=camera, distortion=lens.distortion,
        subject=subject)


def _read_cdf(path: Path, axes: int) -> np.ndarray:
    """Read variable Pose of a CDF file as `(frames, 32, axes)`."""
    if not path.is_file():
        raise EvaluationError(f'{path} is not there; unpack the poses of its subject')
    cdf = _cdf_library()
    try:
        pose = np.asarray(cdf.CDF(path).varget('Pose'))
    except Exception as error:  # a damaged file makes the parser raise anything
        raise EvaluationError(
            f'{path}: field Pose cannot be read ({error}); unpack the file again') from error
    # The release writes one record that holds all frames.
    pose = pose[0] if pose.ndim == 3 and len(pose) == 1 else pose
    return array_of(pose, (-1, NATIVE_JOINTS * axes), path, 'Pose').reshape(
        -1, NATIVE_JOINTS, axes)


def _cdf_library() -> Any:
    try:
        import cdflib
    except ImportError as error:
        raise EvaluationError('Human3.6M\'s files are CDF, which the library cdflib reads: '
                              'pip install cdflib') from error
    return cdflib
