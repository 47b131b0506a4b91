# SPDX-License-Identifier: Apache-2.0
"""Readers of published datasets in their official formats, for users who hold them."""

from __future__ import annotations

from pathlib import Path

from hmr_ros.evaluation.datasets import coco, human36m, mpi_inf_3dhp, mpii, three_dpw
from hmr_ros.evaluation.datasets.people import LabelledPerson, People, Pictures, read_picture
from hmr_ros.evaluation.errors import EvaluationError

__all__ = ['DATASETS', 'LabelledPerson', 'People', 'Pictures', 'read_dataset', 'read_picture']

DATASETS = {'3dpw': three_dpw, 'coco': coco, 'human36m': human36m, 'mpi_inf_3dhp': mpi_inf_3dhp,
            'mpii': mpii}


def read_dataset(name: str, folder: str | Path, split: str) -> People:
    """
    Read the people of a dataset from the folder that holds its official files.

    Files are opened as the iterator goes, so what is wrong with them is raised from it, as
    EvaluationError with the file and the field. An unknown name, a split the dataset has not and
    a missing folder are refused at once.
    """
    if name not in DATASETS:
        raise EvaluationError(f'dataset {name!r} is unknown; expected one of {", ".join(DATASETS)}')
    reader, folder = DATASETS[name], Path(folder).expanduser()
    if split not in reader.SPLITS:
        raise EvaluationError(f'dataset {name} has no split {split!r}; expected one of '
                              f'{", ".join(reader.SPLITS)}')
    if not folder.is_dir():
        raise EvaluationError(f'folder {folder} of dataset {name} is not there')
    return reader.read(folder, split)
