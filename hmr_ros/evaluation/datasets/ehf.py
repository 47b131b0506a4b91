# SPDX-License-Identifier: Apache-2.0
"""EHF in its official files: NN_img.jpg or .png, NN_align.ply, NN_2Djnt.json (bidrn sheet, 4)."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from hmr_ros.evaluation.datasets.ply import read_vertices
from hmr_ros.evaluation.datasets.reading import array_of, box_around, field_of
from hmr_ros.evaluation.datasets.whole_people import LabelledMesh
from hmr_ros.evaluation.errors import EvaluationError

#: turns the scanner's axes into the camera's.
TO_CAMERA = Rotation.from_rotvec([-2.98747896, 0.01172457, -0.05704687])
_PICTURES = ('_img.jpg', '_img.png')


def read(folder: Path) -> Iterator[LabelledMesh]:
    """
    Read the 100 people; their boxes surround the 2D keypoints that were found.

    Raises EvaluationError that names the file, also when there is none.
    """
    meshes = sorted(folder.glob('*_align.ply'))
    if not meshes:
        raise EvaluationError(f'folder {folder} has no file *_align.ply; give the folder of EHF')
    for path in meshes:
        name = path.name.removesuffix('_align.ply')
        vertices = TO_CAMERA.apply(read_vertices(path)).astype(np.float32)
        yield LabelledMesh(
            _picture(folder, name), name, _box(folder / f'{name}_2Djnt.json'), vertices)


def _picture(folder: Path, name: str) -> Path:
    found = [folder / f'{name}{ending}' for ending in _PICTURES
             if (folder / f'{name}{ending}').is_file()]
    if not found:
        raise EvaluationError(f'picture {folder / name}_img.jpg is not there; unpack EHF again')
    return found[0]


def _box(path: Path) -> np.ndarray:
    """Surround the keypoints of the body that have a confidence."""
    try:
        people = field_of(json.loads(path.read_text()), 'people', path)
    except (OSError, ValueError) as error:
        raise EvaluationError(f'{path} cannot be read: {error}; unpack EHF again') from error
    if not people:
        raise EvaluationError(f'{path}: field people is empty; unpack EHF again')
    numbers = field_of(people[0], 'pose_keypoints_2d', path)
    points = array_of(np.reshape(numbers, (-1, 3)), (-1, 3), path, 'pose_keypoints_2d')
    known = points[points[:, 2] > 0, :2]
    if len(known) < 2:
        raise EvaluationError(f'{path}: field pose_keypoints_2d has no two keypoints')
    return box_around(known)
