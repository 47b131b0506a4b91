# SPDX-License-Identifier: Apache-2.0
"""Reads SMPL-format body files (.npz, .pkl) into a BodyModel; nothing in a file is ever run."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
import zipfile

import numpy as np

from hmr_ros.body.markers import choose_leaves, choose_markers
from hmr_ros.body.model import BodyError, BodyModel
from hmr_ros.body.unpickle import load_arrays

OPEN_BODY = Path(__file__).parent / 'data' / 'open_body.npz'
_OPTIONAL = ('posedirs', 'leaf_vertices', 'marker_vertices')
REQUIRED = ('v_template', 'shapedirs', 'J_regressor', 'weights', 'kintree_table', 'f')
# Leaf vertices on the SMPL topology (keypoint_guided sheet, section 1.4).
SMPL_LEAVES = np.array([411, 2445, 5905, 3216, 6617], np.int32)
# Marker vertices on the SMPL topology (sheet, section 1.5).
SMPL_MARKERS = np.array([
    1812, 1252, 4735, 1725, 1323, 4804, 5194, 1454, 4927, 1058, 4544, 4360, 874, 4841, 1368, 1769,
    6488, 3040, 3749, 239, 3512, 0, 5322, 3171, 1861, 4918, 1443, 3506, 5135, 1666, 5037, 1568,
    4343, 857, 5573, 2112, 5686, 2224, 5635, 2174, 4927, 1454, 4538, 1053, 4568, 1082, 6728, 3327,
    6736, 3336, 6747, 3346, 6682, 3314, 6633, 3233, 3387, 6786, 3122, 6544, 3016, 3470, 182, 3694,
    5273, 2108, 5568], np.int32)
SMPL_VERTICES = 6890


def load_body(name_or_path: str | Path = 'open_body') -> BodyModel:
    """
    Load the open body (`'open_body'`) or the user's SMPL-format file (.npz or .pkl).

    Raises BodyError when the file is missing, damaged, not SMPL-format, or a pickle that wants
    to build anything but arrays.
    """
    path = OPEN_BODY if str(name_or_path) == 'open_body' else Path(name_or_path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BodyError(
            f'body model file {path} cannot be read ({error.strerror}). Use open_body, or get '
            'SMPL from https://smpl.is.tue.mpg.de under its own licence and give its path'
        ) from error
    arrays = read_arrays(path, content, (*REQUIRED, *_OPTIONAL))
    _check_arrays(path, arrays)
    return _to_model(path.stem, hashlib.sha256(content).hexdigest(), arrays)


def read_arrays(path: Path, content: bytes, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """
    Take those `wanted` arrays that the `content` of a model file (.npz or .pkl) has.

    Raises BodyError when it is damaged, or wants to build anything but arrays. Other entries of an
    .npz are not touched: the official SMPL-X file keeps pickled tables beside its arrays.
    """
    if path.suffix == '.pkl':
        arrays = load_arrays(content, path.name)
        return {name: arrays[name] for name in wanted if name in arrays}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in wanted if name in file}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BodyError(
            f'body model file {path} is not a readable .npz of plain arrays ({error}); expected '
            'an SMPL-format .npz or .pkl') from error


def _check_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise BodyError(
            f'body model file {path} lacks {", ".join(missing)}; an SMPL file holds '
            f'{", ".join(REQUIRED)}')
    check_skinning(path, arrays, 24, '(SMPL: 24 joints). SMPL-H and SMPL-X files are not bodies of '
                                     'this layout')


def check_skinning(path: Path, arrays: dict[str, np.ndarray], joints: int, remark: str) -> None:
    """
    Raise BodyError, which closes with `remark`, when a shape is wrong for so many `joints`.

    arrays holds all of `REQUIRED`.
    """
    count = len(arrays['v_template'])
    expected = {
        'v_template': (count, 3), 'J_regressor': (joints, count), 'weights': (count, joints),
        'kintree_table': (2, joints)}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise BodyError(
                f'body model file {path}: {name} has shape {arrays[name].shape}, expected {shape} '
                f'{remark}')
    shapedirs = arrays['shapedirs']
    if shapedirs.ndim != 3 or shapedirs.shape[:2] != (count, 3) or shapedirs.shape[2] < 10:
        raise BodyError(
            f'body model file {path}: shapedirs has shape {shapedirs.shape}, expected '
            f'({count}, 3, 10 or more)')
    faces = arrays['f']
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.max() >= count:
        raise BodyError(
            f'body model file {path}: f must be (F, 3) vertex indices below {count}, got shape '
            f'{faces.shape} and largest index {faces.max()}')


def skinning_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray | None]:
    """Fields of a SkinnedModel, but for `shapedirs`, from checked arrays of a file."""
    parents = arrays['kintree_table'][0].astype(np.int64).astype(np.int32)
    parents[0] = -1
    floats = {name: np.ascontiguousarray(arrays[name], np.float32)
              for name in ('v_template', 'weights', 'J_regressor')}
    return {**floats, 'parents': parents, 'faces': np.ascontiguousarray(arrays['f'], np.int32),
            'posedirs': _posedirs(arrays.get('posedirs'), len(arrays['v_template']))}


def _to_model(name: str, sha256: str, arrays: dict[str, np.ndarray]) -> BodyModel:
    skinning = skinning_arrays(arrays)
    leaves, markers = _named_vertices(
        arrays, *(skinning[key] for key in ('v_template', 'faces', 'weights', 'J_regressor')))
    return BodyModel(
        name=name, sha256=sha256, leaf_vertices=leaves, marker_vertices=markers,
        shapedirs=np.ascontiguousarray(arrays['shapedirs'][..., :10], np.float32), **skinning)


def _posedirs(posedirs: np.ndarray | None, count: int) -> np.ndarray | None:
    if posedirs is None or not posedirs.any():
        return None
    flat = posedirs.reshape(count * 3, -1).T
    return np.ascontiguousarray(flat, np.float32)


def _named_vertices(
        arrays: dict[str, np.ndarray], v_template: np.ndarray, faces: np.ndarray,
        weights: np.ndarray, regressor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if 'leaf_vertices' in arrays and 'marker_vertices' in arrays:
        return arrays['leaf_vertices'], arrays['marker_vertices']
    if len(v_template) == SMPL_VERTICES:
        return SMPL_LEAVES, SMPL_MARKERS
    joints = regressor @ v_template
    return (choose_leaves(v_template, weights, joints),
            choose_markers(v_template, faces, weights, joints))
