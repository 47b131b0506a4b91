# SPDX-License-Identifier: Apache-2.0
"""Coloured meshes in files that viewers open: PLY and GLB."""

from __future__ import annotations

import os
from pathlib import Path
import uuid

import numpy as np

from hmr_ros.perception.errors import PerceptionError

#: kinds of files that can be written.
SUFFIXES = ('.ply', '.glb')


def write_mesh(
        path: str | Path, vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray) -> None:
    """
    Write a mesh as binary PLY or GLB, by the suffix of `path`.

    vertices  (V, 3) metres; GLB takes them as x right, y up, z towards the viewer
    faces     (F, 3) vertex numbers, seen from outside counter-clockwise
    colours   (V, 3) uint8 RGB

    The file appears whole or not at all, and replaces another one of that name. Raises
    PerceptionError for other suffixes, arrays that are no mesh, and where it cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    _check(vertices, faces, colours)
    data = _encoded(path.suffix.lower()[1:], vertices, faces, colours)
    try:
        _replace(path, data)
    except OSError as error:
        raise PerceptionError(
            f'{path}: the mesh cannot be written ({error.strerror}); choose a folder that exists, '
            'may be written, and has room') from error


def check_suffix(path: str | Path) -> None:
    """Raise PerceptionError unless `write_mesh` knows the suffix of `path`."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise PerceptionError(f'{path}: a mesh file ends with {" or ".join(SUFFIXES)}')


def _check(vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray) -> None:
    count = len(vertices)
    if vertices.shape != (count, 3) or not np.isfinite(vertices).all():
        raise PerceptionError(
            f'vertices have shape {vertices.shape}; expected (V, 3) finite numbers in metres')
    if colours.shape != (count, 3) or colours.dtype != np.uint8:
        raise PerceptionError(
            f'colours have shape {colours.shape} of {colours.dtype}; expected {(count, 3)} uint8')
    if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces) or not (
            0 <= faces.min() and faces.max() < count):
        raise PerceptionError(
            f'faces have shape {faces.shape}; expected (F, 3) numbers of the {count} vertices, and '
            'one face at least')


def _encoded(kind: str, vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray) -> bytes:
    try:
        import trimesh
    except ImportError as error:
        raise PerceptionError(
            f"a mesh file needs trimesh ({error}); pip install 'hmr_ros[digitizer]'") from error
    mesh = trimesh.Trimesh(vertices, faces, vertex_colors=colours, process=False)
    return mesh.export(file_type=kind)


def _replace(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename, so that nobody ever reads half a file."""
    unfinished = path.with_name(f'.{path.name}.{uuid.uuid4().hex}')
    try:
        # Not by tempfile: what that makes nobody else may read.
        with unfinished.open('xb') as stream:
            stream.write(data)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
