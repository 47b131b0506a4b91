# SPDX-License-Identifier: Apache-2.0
"""Pictures of a mesh from all around, with its colours and as clay."""

from __future__ import annotations

import cv2
import numpy as np

from hmr_ros.perception.digitizer.mesh import coarser, Mesh, vertex_normals
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.painting import facing, paint

#: painted so many times finer than shown, for smooth edges.
_FINER = 2
#: share of the height that the mesh fills.
_FILL = 0.92
#: more triangles than these are painted as fewer, of so many pixels.
_MOST_FACES, _CELL_PX = 400_000, 1.2
_KEY, _FILL_LIGHT = np.float32([-0.42, 0.55, 0.72]), np.float32([0.75, -0.1, 0.45])
_AMBIENT, _SIDE = 0.34, 0.18
#: how much of the shade colours get, in which light lies already.
_SHADED = 0.45
_CLAY = np.float32([226, 216, 204])
_PAPER = np.float32([247, 247, 245])


def turntable(mesh: Mesh, views: int = 8, height: int = 480) -> np.ndarray:
    """
    Show a mesh in `views` directions, one beside the other: uint8 RGB `(2 height, W, 3)`.

    The upper row has the mesh's colours, the lower one the shape alone. The first view is the one
    of the camera; the mesh turns about its vertical axis, to its own left first. Raises
    PerceptionError for an empty mesh.
    """
    if not len(mesh.faces) or views < 1 or height < 16:
        raise PerceptionError(
            f'a turntable of {len(mesh.faces)} triangles, {views} views and {height} pixels; '
            'expected a mesh, one view or more, and 16 pixels or more')
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    middle, tall = (low + high) / 2, float(high[1] - low[1])
    reach = float(np.linalg.norm((mesh.vertices - middle)[:, [0, 2]], axis=1).max())
    scale = _FINER * _FILL * height / max(tall, 1e-9)
    width = max(int(np.ceil(2 * reach * scale / (_FINER * _FILL))), 8)
    shown = mesh if len(mesh.faces) <= _MOST_FACES else coarser(mesh, _CELL_PX / scale)
    centred = Mesh(shown.vertices - middle, shown.faces, shown.colours)
    normals, columns = vertex_normals(centred), np.ascontiguousarray(shown.faces.T)
    tiles = [_view(centred, normals, columns, 2 * np.pi * number / views, scale, (height, width))
             for number in range(views)]
    return np.concatenate(tiles, 1)


def _view(
        mesh: Mesh, normals: np.ndarray, columns: np.ndarray, angle: float, scale: float,
        shape: tuple[int, int]) -> np.ndarray:
    """One direction, colours above clay: `(2 H, W, 3)` uint8."""
    height, width = shape
    fine = (_FINER * height, _FINER * width)
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.float32([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    points, lit = mesh.vertices @ turn.T, _shade(normals @ turn.T)
    corners = points[:, :2] * np.float32([scale, -scale]) + np.float32(fine[::-1]) / 2
    kept, spans = facing(corners, columns, fine)
    painted = paint(corners, -points[:, 2], mesh.faces[kept], spans[kept],
                    (np.ones(len(points), np.float32), lit, *mesh.colours.T.astype(np.float32)),
                    fine)
    small = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
             for picture in painted]
    cover = small[0][..., None]
    # Each was averaged with the empty pixels around.
    shade, *colours = (picture / np.maximum(small[0], 1e-6) for picture in small[1:])
    coloured = np.stack(colours, 2) * (1 - _SHADED + _SHADED * shade[..., None])
    rows = [cover * row + (1 - cover) * _PAPER for row in (coloured, _CLAY * shade[..., None])]
    return np.round(np.concatenate(rows).clip(0, 255)).astype(np.uint8)


def _shade(normals: np.ndarray) -> np.ndarray:
    """Brightness `(V,)` float32 of normals in the axes of a view: right, up, to the viewer."""
    return np.minimum(
        _AMBIENT + (1 - _AMBIENT) * np.maximum(normals @ _KEY, 0)
        + _SIDE * np.maximum(normals @ _FILL_LIGHT, 0), 1.05).astype(np.float32)
