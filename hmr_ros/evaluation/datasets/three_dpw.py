# SPDX-License-Identifier: Apache-2.0
"""3DPW in its official files: sequenceFiles/SPLIT/*.pkl and imageFiles/SEQUENCE/*.jpg."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import pickle
from typing import Any

import numpy as np

from hmr_ros.body.unpickle import load_plain
from hmr_ros.evaluation.datasets.people import LabelledPerson, People, read_image
from hmr_ros.evaluation.datasets.reading import (
    array_of, box_around, defect, Extrinsics, field_of, placed, project)
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.rotations import axis_angle_to_matrix

SPLITS = ('train', 'validation', 'test')
SMPL_JOINTS = 24
KEYPOINTS = 18
# The files have SMPL's 24 joints and not the five leaves.
ORDER = {joint: joint for joint in range(SMPL_JOINTS)}
GENDERS = {'m': 'male', 'f': 'female'}


@dataclass(frozen=True, eq=False)
class _Actor:
    """One person through F frames: poses (F, 72), joints (F, 24, 3) in the world, and so on."""

    number: int
    poses: np.ndarray
    joints: np.ndarray
    betas: np.ndarray
    keypoints: np.ndarray
    valid: np.ndarray
    gender: str


def read(folder: Path, split: str) -> People:
    """
    Read the people of `train`, `validation` or `test`, one for each frame and person.

    Root orientation and joints are brought from the world into the camera's optical frame; people
    in frames without a valid camera pose are skipped. `joints2d` is the projection of
    `joints3d`, `native2d` (18, 3) the detections of poses2d with their confidence. Raises
    EvaluationError, file and field named; a pickle that wants anything but arrays, text and
    containers is refused.
    """
    return People(lambda skipped: _people(folder, split, skipped))


def _people(folder: Path, split: str, skipped: Counter[str]) -> Iterator[LabelledPerson]:
    files = sorted((folder / 'sequenceFiles' / split).glob('*.pkl'))
    if not files:
        raise EvaluationError(f'folder {folder / "sequenceFiles" / split} has no .pkl file; give '
                              'the folder that holds sequenceFiles and imageFiles')
    for path in files:
        yield from _sequence(path, folder / 'imageFiles', skipped)


def _sequence(path: Path, images: Path, skipped: Counter[str]) -> Iterator[LabelledPerson]:
    content = _load(path)
    name = str(field_of(content, 'sequence', path))
    places = array_of(field_of(content, 'cam_poses', path), (-1, 4, 4), path, 'cam_poses')
    actors = _actors(content, len(places), path)
    files = [images / name / f'image_{frame:05d}.jpg' for frame in range(len(places))]
    if not files:
        raise EvaluationError(f'{path}: field cam_poses has no frame; unpack the file again')
    camera = _camera(content, files[0], path)
    for frame, place in enumerate(places):
        for actor in actors:
            reason = 'no valid camera pose'
            if actor.valid[frame]:
                person = _person(actor, frame, files[frame], name, place, camera)
                reason = person if isinstance(person, str) else None
            if reason:
                skipped[reason] += 1
            else:
                yield person


def _load(path: Path) -> dict[str, Any]:
    try:
        return load_plain(path.read_bytes())
    except OSError as error:
        raise EvaluationError(f'{path} cannot be read ({error.strerror})') from error
    except pickle.UnpicklingError as error:
        raise EvaluationError(
            f'{path} is refused: {error}. Only pickles of arrays, text, lists and dictionaries '
            'are read; get the file from its publisher again') from error


def _actors(content: dict[str, Any], frames: int, path: Path) -> list[_Actor]:
    names = ('poses', 'jointPositions', 'betas', 'poses2d', 'campose_valid', 'genders')
    columns = [field_of(content, name, path) for name in names]
    lengths = {name: np.shape(column)[:1] if isinstance(column, np.ndarray) else (len(column),)
               if isinstance(column, list) else () for name, column in zip(names, columns)}
    if () in lengths.values() or len(set(lengths.values())) != 1:
        raise EvaluationError(f'{path}: fields {", ".join(names)} have {lengths} entries, expected '
                              'a list with one entry for each person')
    return [_actor(number, dict(zip(names, values)), frames, path)
            for number, values in enumerate(zip(*columns))]


def _actor(number: int, row: dict[str, Any], frames: int, path: Path) -> _Actor:
    def column(name: str, *shape: int) -> np.ndarray:
        return array_of(row[name], shape, path, f'{name}[{number}]')

    betas = column('betas', -1)
    if len(betas) < 10:
        raise EvaluationError(
            f'{path}: field betas[{number}] has {len(betas)} numbers, expected 10 or more')
    if str(row['genders']) not in GENDERS:
        raise EvaluationError(f'{path}: field genders[{number}] is {row["genders"]!r}, expected '
                              'm or f')
    return _Actor(
        number, column('poses', frames, 3 * SMPL_JOINTS),
        column('jointPositions', frames, 3 * SMPL_JOINTS).reshape(-1, SMPL_JOINTS, 3),
        betas[:10].astype(np.float32), column('poses2d', frames, 3, KEYPOINTS),
        column('campose_valid', frames).astype(bool), GENDERS[str(row['genders'])])


def _camera(content: dict[str, Any], image: Path, path: Path) -> Camera:
    # The file does not say how large its pictures are; all of a sequence are of one size.
    height, width = read_image(image).shape[:2]
    matrix = array_of(field_of(content, 'cam_intrinsics', path), (3, 3), path, 'cam_intrinsics')
    try:
        return Camera(*matrix[[0, 1], [0, 1]], *matrix[:2, 2], width, height)
    except PerceptionError as error:
        raise EvaluationError(f'{path}: field cam_intrinsics: {error}') from error


def _person(actor: _Actor, frame: int, image: Path, sequence: str, place: np.ndarray,
            camera: Camera) -> LabelledPerson | str:
    """Return the person, or the reason why it cannot be used."""
    extrinsics = Extrinsics(place[:3, :3], place[:3, 3])
    points = extrinsics.to_camera(actor.joints[frame])
    with np.errstate(divide='ignore', invalid='ignore'):
        pixels = project(points, camera, None)
    reason = defect(points, pixels, camera)
    if reason or not np.isfinite(actor.poses[frame]).all():
        return reason or 'numbers are not finite'
    rotmats = axis_angle_to_matrix(actor.poses[frame].reshape(-1, 3))
    rotmats[0] = extrinsics.rotation @ rotmats[0]
    joints2d, weight2d = placed(pixels, 1, ORDER)
    joints3d, weight3d = placed(points, 1, ORDER)
    return LabelledPerson(
        file=image, frame=None, sequence=sequence, person_id=str(actor.number),
        box=box_around(pixels), joints2d=joints2d, joints2d_weight=weight2d, joints3d=joints3d,
        joints3d_weight=weight3d, native2d=actor.keypoints[frame].T.astype(np.float32),
        native3d=points.astype(np.float32), camera=camera, rotmats=rotmats.astype(np.float32),
        betas=actor.betas, gender=actor.gender)
