# SPDX-License-Identifier: Apache-2.0
"""MPI-INF-3DHP in its official files: S*/Seq*/ with annot.mat, camera.calibration, videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import io

from hmr_ros.evaluation.datasets.people import LabelledPerson, People
from hmr_ros.evaluation.datasets.reading import (
    array_of, box_around, defect, Extrinsics, field_of, placed)
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.errors import PerceptionError

# The sheet trains on this set only; its test set has another format.
SPLITS = ('train',)
NATIVE_JOINTS = 28
# Pelvis, knees, ankles, neck, shoulders, elbows, wrists, by MPI-INF-3DHP's index.
ORDER = {4: 0, 19: 4, 24: 5, 20: 7, 25: 8, 5: 12, 9: 16, 14: 17, 10: 18, 15: 19, 11: 20, 16: 21}
HEADER = 'Skeletool Camera Calibration File'


@dataclass(frozen=True, eq=False)
class PlacedCamera:
    """A camera and where it stands."""

    camera: Camera
    extrinsics: Extrinsics


def read(folder: Path, split: str) -> People:
    """
    Read the people of `train`, one for each frame of each video that is there.

    The release lets users fetch some cameras only, so cameras without a video are counted as
    skipped. Raises EvaluationError, file and field named.
    """
    del split
    return People(lambda skipped: _people(folder, skipped))


def read_calibration(path: Path) -> list[PlacedCamera]:
    """Read camera.calibration: the cameras in the order of annot.mat's cells."""
    try:
        lines = path.read_text(encoding='latin1').splitlines()
    except OSError as error:
        raise EvaluationError(f'{path} cannot be read ({error.strerror}); unpack the sequence '
                              'again') from error
    if not lines or not lines[0].startswith(HEADER):
        raise EvaluationError(f'{path}: the first line is not {HEADER!r}; unpack the file again')
    blocks: list[dict[str, list[str]]] = []
    for line in lines[1:]:
        key, *values = line.split() or ['']
        if key == 'name':
            blocks.append({})
        if key and blocks:
            blocks[-1][key] = values
    if not blocks:
        raise EvaluationError(f'{path}: field name is missing: there is no camera in it')
    return [_camera(block, path) for block in blocks]


def _camera(block: dict[str, list[str]], path: Path) -> PlacedCamera:
    width, height = array_of(field_of(block, 'size', path), (2,), path, 'size')
    matrix, place = (array_of(field_of(block, name, path), (16,), path, name).reshape(4, 4)
                     for name in ('intrinsic', 'extrinsic'))
    try:
        camera = Camera(*matrix[[0, 1], [0, 1]], *matrix[:2, 2], int(width), int(height))
    except PerceptionError as error:
        raise EvaluationError(f'{path}: field intrinsic: {error}') from error
    return PlacedCamera(camera, Extrinsics(place[:3, :3], place[:3, 3] / 1000))


def _people(folder: Path, skipped: Counter[str]) -> Iterator[LabelledPerson]:
    files = sorted(folder.glob('S*/Seq*/annot.mat'))
    if not files:
        raise EvaluationError(
            f'folder {folder} has no S*/Seq*/annot.mat; give the folder that holds S1 to S8')
    for path in files:
        yield from _sequence(path, skipped)


def _sequence(path: Path, skipped: Counter[str]) -> Iterator[LabelledPerson]:
    cameras = read_calibration(path.with_name('camera.calibration'))
    cells2d, cells3d = _cells(path, len(cameras))
    videos = [path.parent / 'imageSequence' / f'video_{i}.avi' for i in range(len(cameras))]
    present = [index for index, video in enumerate(videos) if video.is_file()]
    if not present:
        raise EvaluationError(
            f'{videos[0]} is not there, nor the video of another camera; unpack the sequence\'s '
            'videos')
    skipped['camera without a video'] += len(videos) - len(present)
    for index in present:
        pixels, points = (
            array_of(cell, (-1, NATIVE_JOINTS * axes), path, f'{name}, camera {index}').reshape(
                -1, NATIVE_JOINTS, axes)
            for name, cell, axes in (('annot2', cells2d[index], 2), ('annot3', cells3d[index], 3)))
        if len(pixels) != len(points):
            raise EvaluationError(f'{path}: camera {index} has {len(pixels)} frames in annot2 and '
                                  f'{len(points)} in annot3, expected as many')
        yield from _frames(pixels, points / 1000, videos[index], cameras[index].camera, skipped)


def _cells(path: Path, cameras: int) -> list[np.ndarray]:
    """Read the cells annot2 and annot3, one entry for each camera."""
    names = ('annot2', 'annot3')
    try:
        content = io.loadmat(path, variable_names=names)
    except Exception as error:  # a damaged file makes the parser raise anything
        raise EvaluationError(f'{path} cannot be read ({error}); unpack the sequence again'
                              ) from error
    cells = [np.ravel(field_of(content, name, path)) for name in names]
    for name, cell in zip(names, cells):
        if cell.dtype != object or len(cell) != cameras:
            raise EvaluationError(
                f'{path}: field {name} has {len(cell)} entries of type {cell.dtype}, expected '
                f'one cell for each of the {cameras} cameras of camera.calibration')
    return cells


def _frames(pixels: np.ndarray, points: np.ndarray, video: Path, camera: Camera,
            skipped: Counter[str]) -> Iterator[LabelledPerson]:
    subject, sequence = video.parents[2].name, video.parents[1].name
    for frame in range(len(points)):
        reason = defect(points[frame], pixels[frame], camera)
        if reason:
            skipped[reason] += 1
            continue
        joints2d, weight2d = placed(pixels[frame], 1, ORDER)
        joints3d, weight3d = placed(points[frame], 1, ORDER)
        yield LabelledPerson(
            file=video, frame=frame, sequence=f'{subject}/{sequence}/{video.stem}',
            person_id=subject, box=box_around(pixels[frame]), joints2d=joints2d,
            joints2d_weight=weight2d, joints3d=joints3d, joints3d_weight=weight3d,
            native2d=np.c_[pixels[frame], np.ones(NATIVE_JOINTS)].astype(np.float32),
            native3d=points[frame].astype(np.float32), camera=camera, subject=subject)
