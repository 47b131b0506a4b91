# SPDX-License-Identifier: Apache-2.0
"""
How far a digitized surface is from the true one (sheet, section 6).

Surfaces are triangles in the virtual camera's axes, right, down, forward, in units. Lengths come
out in those units, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy.spatial import KDTree
import trimesh

from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.digitizer.depth import focal_length
from hmr_ros.training.synthetic.rasterizer import edge, rasterize, vertex_normals

#: points that stand for a surface, and how many of them lie on it where distances to it are asked.
SAMPLES, _DENSE = 10_000, 100_000
#: triangles that may be the nearest to a point: those of so many nearest samples.
_CANDIDATES = 6
#: cells on the longest side for the solid overlap (sheet, section 6).
CELLS = 256
#: from where somebody looks at a surface to tell what is outside, degrees, and how finely.
_AROUND, _ABOVE_DEG, _PICTURE = 8, (0, 30), 768


@dataclass(frozen=True)
class Shape:
    """A surface: vertices (V, 3) float32 units, faces (F, 3) int32, outward."""

    vertices: np.ndarray
    faces: np.ndarray


def sampled(shape: Shape, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw points `(count, 3)` evenly over a surface, and the face `(count,)` of each."""
    if not len(shape.faces):
        raise EvaluationError('a surface without triangles cannot be sampled')
    mesh = trimesh.Trimesh(shape.vertices, shape.faces, process=False)
    points, faces = trimesh.sample.sample_surface(mesh, count, seed=seed)
    return np.asarray(points), np.asarray(faces)


class Distances:
    """Distances from one surface, to within a small part of the spacing of its samples."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        points, self._owner = sampled(shape, _DENSE, seed)
        self._tree = KDTree(points)
        self._triangles = shape.vertices[shape.faces].astype(np.float64)

    def of(self, points: np.ndarray) -> np.ndarray:
        """Distance `(N,)` of each point `(N, 3)` from the nearest triangle that has a sample."""
        _, nearest = self._tree.query(points, k=_CANDIDATES)
        faces = self._owner[nearest].ravel()
        repeated = np.repeat(points, _CANDIDATES, 0)
        closest = trimesh.triangles.closest_point(self._triangles[faces], repeated)
        return np.linalg.norm(closest - repeated, axis=1).reshape(-1, _CANDIDATES).min(1)


def seen_from_outside(shape: Shape) -> Shape:
    """
    Leave the triangles out that nobody around sees: skin below clothes, linings.

    A scanner would not have them either. From 16 directions, level and from above, so that nobody
    looks under a skirt. Of cloth with two sides on the same vertices the one that is seen from more
    directions stays.
    """
    vertices = shape.vertices.astype(np.float64)
    vertices -= (vertices.min(0) + vertices.max(0)) / 2
    vertices *= (_PICTURE / 2 - 1) / np.linalg.norm(vertices, axis=1).max()
    faces = np.ascontiguousarray(shape.faces, np.int32)
    views = np.zeros(len(faces), int)
    for above in np.radians(_ABOVE_DEG):
        for turn in np.arange(_AROUND) * 2 * np.pi / _AROUND:
            rotation = trimesh.transformations.euler_matrix(0, turn, above, 'sxyx')[:3, :3]
            views += _seen(np.float32(vertices @ rotation.T), faces)
    _, side = np.unique(np.sort(faces, 1), axis=0, return_inverse=True)
    most = np.zeros(len(faces), int)
    np.maximum.at(most, side.reshape(-1), views)
    return Shape(shape.vertices, shape.faces[(views > 0) & (views == most[side.reshape(-1)])])


def _seen(places: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Tell which triangles are seen along the third axis; places (V, 3) in pixels, 0 amid."""
    points = np.ascontiguousarray(places[:, :2] + _PICTURE / 2)
    near = np.ascontiguousarray(_PICTURE - places[:, 2])
    triangles = np.full((_PICTURE, _PICTURE), -1, np.int32)
    buffer = np.zeros(triangles.shape, np.float32)
    rasterize(points, near, faces, triangles, buffer)
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    faced = edge(a[:, 0], a[:, 1], b[:, 0], b[:, 1], c[:, 0], c[:, 1]) < 0
    # One smaller than a pixel may have none, and is seen where the others are no nearer.
    columns, rows = np.round((a + b + c) / 3).astype(int).T
    seen = faced & (near[faces].mean(1) > buffer[rows, columns] - 1)
    seen[triangles[triangles >= 0]] = True
    return seen


def surface_distances(
        predicted: Shape, true: Shape, seed: int = 0, count: int = SAMPLES) -> tuple[float, float]:
    """Mean distance from `predicted` to `true` (P2S), and the mean of both directions (Chamfer)."""
    forth = Distances(true, seed).of(sampled(predicted, count, seed + 1)[0]).mean()
    back = Distances(predicted, seed).of(sampled(true, count, seed + 1)[0]).mean()
    return float(forth), float((forth + back) / 2)


def front_normals(shape: Shape, side: int) -> tuple[np.ndarray, np.ndarray]:
    """
    What the virtual camera sees in a square picture: normals and depth.

    Returns (side, side, 3) float32 outward normals of length 1, 0 where nothing is, interpolated
    between vertices; and (side, side) float32 forward coordinates, infinite there.
    """
    vertices = np.ascontiguousarray(shape.vertices, np.float32)
    faces = np.ascontiguousarray(shape.faces, np.int32)
    points = vertices[:, :2] / vertices[:, 2:] * focal_length(side) + (side - 1) / 2
    near = np.ascontiguousarray(1 / vertices[:, 2], np.float32)
    triangles = np.full((side, side), -1, np.int32)
    buffer = np.zeros((side, side), np.float32)
    points = np.ascontiguousarray(points, np.float32)
    rasterize(points, near, faces, triangles, buffer)
    normals = np.zeros((side, side, 3), np.float32)
    _interpolate(points, near, faces, vertex_normals(vertices, faces), triangles, normals)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    depth = np.divide(1, buffer, out=np.full_like(buffer, np.inf), where=buffer > 0)
    return normals / np.where(length > 0, length, 1), depth


@numba.njit(cache=True, nogil=True)
def _interpolate(
        points: np.ndarray, near: np.ndarray, faces: np.ndarray, values: np.ndarray,
        triangles: np.ndarray, picture: np.ndarray) -> None:
    """Mix `values` (V, 3) of the corners of each pixel's triangle, as a pinhole camera sees it."""
    for y in range(triangles.shape[0]):
        for x in range(triangles.shape[1]):
            face = triangles[y, x]
            if face < 0:
                continue
            a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
            wa = near[a] * edge(points[b, 0], points[b, 1], points[c, 0], points[c, 1], x, y)
            wb = near[b] * edge(points[c, 0], points[c, 1], points[a, 0], points[a, 1], x, y)
            wc = near[c] * edge(points[a, 0], points[a, 1], points[b, 0], points[b, 1], x, y)
            for k in range(3):
                # The sign of a front-facing triangle's area is negative.
                picture[y, x, k] = -(wa * values[a, k] + wb * values[b, k] + wc * values[c, k])


def normal_errors(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """
    Mean angle in degrees and mean L2 between normals `(S, S, 3)` where either has one.

    Where one of them has none the angle is 90 degrees and the L2 is 1. Raises EvaluationError
    where neither shows anything.
    """
    lengths = [np.linalg.norm(normals, axis=2) > 0 for normals in (predicted, true)]
    either = lengths[0] | lengths[1]
    if not either.any():
        raise EvaluationError('neither surface is in the picture; normals cannot be compared')
    a, b = predicted[either].astype(np.float64), true[either].astype(np.float64)
    angle = np.degrees(np.arccos((a * b).sum(1).clip(-1, 1)))
    return float(angle.mean()), float(np.linalg.norm(a - b, axis=1).mean())


def solid_overlap(predicted: Shape, true: Shape, cells: int = CELLS) -> float:
    """
    Volume that both hold over the volume that either holds, 0 to 1, of cubes of one size.

    cells  on the longest side of the box around both
    """
    corners = np.concatenate([predicted.vertices, true.vertices]).astype(np.float64)
    low, high = corners.min(0), corners.max(0)
    size = float((high - low).max()) / cells
    counts = np.maximum(np.ceil((high - low) / size), 1).astype(np.int64)
    first, second = (_solid(shape, low, size, counts) for shape in (predicted, true))
    either = int((first | second).sum())
    if not either:
        raise EvaluationError('neither surface holds a cell; the solids cannot be compared')
    return int((first & second).sum()) / either


def _solid(shape: Shape, low: np.ndarray, size: float, counts: np.ndarray) -> np.ndarray:
    """
    Tell which cells a surface holds: bool `counts`.

    Going forward through the middles of the cells, one is inside after more fronts than backs were
    crossed, whatever lies inside what else. A piece of clothing may be open below: there the count
    begins from the back, too.
    """
    crossings = np.zeros((*counts[:2], counts[2] + 1), np.int32)
    places = (shape.vertices.astype(np.float64) - low) / size - 0.5
    _cross(places, np.ascontiguousarray(shape.faces, np.int64), crossings)
    forward = np.cumsum(crossings, 2)
    backward = forward - forward[..., -1:]
    crossed = crossings != 0
    begun = np.maximum.accumulate(crossed, 2)
    lasts = np.maximum.accumulate(crossed[..., ::-1], 2)[..., ::-1]
    return (((forward > 0)[..., :-1] & lasts[..., 1:])
            | ((backward > 0)[..., :-1] & begun[..., :-1]))


@numba.njit(cache=True, nogil=True)
def _cross(places: np.ndarray, faces: np.ndarray, crossings: np.ndarray) -> None:
    """Add 1 to the first cell behind each front and -1 behind each back, column by column."""
    columns, rows, deep = crossings.shape
    # Middles that lie on an edge would count for both triangles, or for none.
    shift_x, shift_y = 1.234567e-7, 2.718281e-7
    for f in range(faces.shape[0]):
        a, b, c = places[faces[f, 0]], places[faces[f, 1]], places[faces[f, 2]]
        area = edge(a[0], a[1], b[0], b[1], c[0], c[1])
        if area == 0.0:
            continue
        for x in range(max(0, int(np.ceil(min(a[0], b[0], c[0]) - 1e-6))),
                       min(columns - 1, int(np.floor(max(a[0], b[0], c[0]) + 1e-6))) + 1):
            for y in range(max(0, int(np.ceil(min(a[1], b[1], c[1]) - 1e-6))),
                           min(rows - 1, int(np.floor(max(a[1], b[1], c[1]) + 1e-6))) + 1):
                px, py = x + shift_x, y + shift_y
                wa = edge(b[0], b[1], c[0], c[1], px, py) / area
                wb = edge(c[0], c[1], a[0], a[1], px, py) / area
                wc = 1.0 - wa - wb
                if wa >= 0.0 and wb >= 0.0 and wc >= 0.0:
                    depth = wa * a[2] + wb * b[2] + wc * c[2]
                    cell = min(max(int(np.ceil(depth)), 0), deep - 1)
                    crossings[x, y, cell] += 1 if area < 0.0 else -1
