# SPDX-License-Identifier: Apache-2.0
"""A closed mesh straight from the pixels of a surface (sheet, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hmr_ros.perception.digitizer.surface import check_colours, Surface, to_world
from hmr_ros.perception.errors import PerceptionError

#: corners of a quad, row and column, around it as a side that is seen from the front wants them.
_CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))
#: where the neighbour lies behind the edge from each corner to the next.
_BEHIND = ((0, -1), (1, 0), (0, 1), (-1, 0))


@dataclass(frozen=True)
class Mesh:
    """
    Triangles that close a body; seen from outside their corners run counter-clockwise.

    vertices  (V, 3) float32 in the world, see `to_world`
    faces     (F, 3) int32
    colours   (V, 3) uint8 RGB
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray


def direct_mesh(surface: Surface, image: np.ndarray) -> Mesh:
    """
    Mesh a surface: quads of pixels on both sides, and walls along the outline.

    image  (S, S, 3) uint8 RGB; the back repeats the colours of the front

    Every edge is shared by exactly two triangles, also where parts of the outline touch in one
    pixel: that one becomes two. Raises PerceptionError where no four neighbours are there, and for
    an image of another size.
    """
    check_colours(surface, image)
    there = surface.there
    quads = there[:-1, :-1] & there[1:, :-1] & there[:-1, 1:] & there[1:, 1:]
    if not quads.any():
        raise PerceptionError(
            'the surface has no four neighbouring pixels of a body; is a person in the image, and '
            'did the networks have weights?')
    framed = np.pad(quads, 1)
    corners = _corners_of(framed, there.shape[1], there.size)
    used = np.zeros(2 * there.size, bool)
    used[corners] = True
    numbers = np.flatnonzero(used)
    corners = (np.cumsum(used) - 1)[corners]
    pixels = numbers % there.size
    return Mesh(
        to_world(np.concatenate([side.reshape(-1, 3)[pixels]
                                 for side in (surface.front, surface.back)])),
        _faces_of(corners, _outline(framed), len(pixels)).astype(np.int32),
        np.tile(image.reshape(-1, 3)[pixels], (2, 1)))


def coarser(mesh: Mesh, cell: float) -> Mesh:
    """
    Merge all vertices of each cube with sides of `cell` units into one: fewer triangles.

    For looking at: thin parts collapse, so that it need not be closed any more. Raises
    PerceptionError when nothing is left.
    """
    places = np.floor((mesh.vertices - mesh.vertices.min(0)) / cell).astype(np.int64)
    size = places.max(0) + 1
    _, owner, counts = np.unique(
        np.ravel_multi_index(places.T, size), return_inverse=True, return_counts=True)
    faces = owner.reshape(-1)[mesh.faces]
    faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    if not len(faces):
        raise PerceptionError(f'a mesh in cells of {cell} units has no triangles; take less')
    vertices, colours = (
        np.stack([np.bincount(owner, column) for column in rows.T], 1) / counts[:, None]
        for rows in (mesh.vertices, mesh.colours))
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32),
                np.round(colours).astype(np.uint8))


def vertex_normals(mesh: Mesh) -> np.ndarray:
    """Outward normals `(V, 3)` float32 of the vertices, of length 1; 0 where no triangle is."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    # As long as twice the triangle's area, which weights it.
    normals, corners = np.cross(b - a, c - a), mesh.faces.T.ravel()
    summed = np.stack([np.bincount(corners, np.tile(column, 3), len(mesh.vertices))
                       for column in normals.T], 1)
    length = np.linalg.norm(summed, axis=1, keepdims=True)
    return (summed / np.where(length > 0, length, 1)).astype(np.float32)


def _neighbour(framed: np.ndarray, row: int, column: int) -> np.ndarray:
    """Tell of every quad whether there is one so many rows and columns away: bool `(n,)`."""
    rows, columns = np.nonzero(framed)
    return framed[rows + row, columns + column]


def _corners_of(framed: np.ndarray, width: int, pixels: int) -> np.ndarray:
    """
    Vertices `(n, 4)` int64 of every quad, numbered as pixels.

    Where two quads meet in one corner alone, the lower one has a vertex of its own, `pixels`
    higher.
    """
    rows, columns = np.nonzero(framed)
    corners = np.stack([
        (rows - 1 + row) * width + columns - 1 + column for row, column in _CORNERS], 1)
    above = _neighbour(framed, -1, 0)
    for corner, aside in ((0, -1), (3, 1)):
        alone = _neighbour(framed, -1, aside) & ~above & ~_neighbour(framed, 0, aside)
        corners[alone, corner] += pixels
    return corners


def _outline(framed: np.ndarray) -> np.ndarray:
    """Tell which edges of every quad, as in _BEHIND, have no other quad behind: bool `(n, 4)`."""
    return np.stack([~_neighbour(framed, row, column) for row, column in _BEHIND], 1)


def _faces_of(corners: np.ndarray, outline: np.ndarray, back: int) -> np.ndarray:
    """Triangles of both sides and of the walls; `back` is added to vertices of the back."""
    front = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    start, end = corners[outline], np.roll(corners, -1, 1)[outline]
    return np.concatenate([
        front, front[:, ::-1] + back, np.stack([end, start, start + back], 1),
        np.stack([end, start + back, end + back], 1)])
