# SPDX-License-Identifier: Apache-2.0
"""
AGORA's SMPL-X ground truth, *_withjv.pkl, and the format in which it takes predictions.

The official toolkit (agora_evaluation, project_joints) makes these files from those that come with
the pictures: one row for each picture, with a list of people in each cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
import pickle
import zipfile

import numpy as np

from hmr_ros.evaluation.datasets.frames import read_frame
from hmr_ros.evaluation.datasets.people import read_image
from hmr_ros.evaluation.datasets.reading import array_of, box_around, field_of
from hmr_ros.evaluation.datasets.whole_people import LabelledMesh
from hmr_ros.evaluation.errors import EvaluationError

#: width of the pictures that the labels are in pixels of; smaller copies come with them.
WIDTH = 3840
#: of the 144 joints of SMPL-X: all but the contour of the face.
JOINTS = 127


def read(folder: Path) -> Iterator[LabelledMesh]:
    """
    Read the people that count; pictures may lie anywhere below `folder`, in any of their sizes.

    Raises EvaluationError that names the file and the field, also when there is none.
    """
    tables = sorted(folder.rglob('*_withjv.pkl'))
    if not tables:
        raise EvaluationError(
            f'folder {folder} has no file *_withjv.pkl; make them with project_joints of the '
            'official toolkit agora_evaluation')
    pictures = {path.name: path for path in sorted(folder.rglob('*.png'))}
    for path in tables:
        table = read_frame(path)
        names, valid, joints, vertices = (field_of(table, name, path) for name in (
            'imgPath', 'isValid', 'gt_joints_2d', 'gt_verts'))
        for row, name in enumerate(names):
            file = _picture(pictures, str(name))
            scale = read_image(file).shape[1] / WIDTH
            for number, counts in enumerate(valid[row]):
                if counts:
                    points = array_of(joints[row][number], (-1, 2), path, 'gt_joints_2d')
                    mesh = array_of(vertices[row][number], (-1, 3), path, 'gt_verts')
                    yield LabelledMesh(file, f'{number}', box_around(scale * points),
                                       mesh.astype(np.float32))


def _picture(pictures: Mapping[str, Path], name: str) -> Path:
    """Find a picture in its full size, or a smaller copy."""
    stem = Path(name).stem
    for candidate in (name, f'{stem}_1280x720.png'):
        if candidate in pictures:
            return pictures[candidate]
    raise EvaluationError(f'picture {name} of AGORA is nowhere below the given folder; unpack it')


def write_predictions(path: Path, people: Iterator[tuple[str, int, Mapping[str, object]]]) -> None:
    """
    Write the zip file that AGORA's server takes.

    people  for each person the picture's name, a number within it, and what the person's pickle
            holds: joints (127, 2) in pixels of 3840 columns, verts (10475, 3),
            allSmplJoints3d (127, 3), both in metres, and params, the SMPL-X parameters by name
    """
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for picture, number, content in people:
            name = f'predictions/{Path(picture).stem}_personId_{number}.pkl'
            archive.writestr(name, pickle.dumps(dict(content), protocol=4))
