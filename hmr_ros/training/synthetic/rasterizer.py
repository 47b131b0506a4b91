# SPDX-License-Identifier: Apache-2.0
"""A z-buffer in compiled Python: one triangle index and one closeness per pixel."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, inline='always')
def edge(ax: float, ay: float, bx: float, by: float, px: float, py: float) -> float:
    """Twice the signed area of triangle a, b, p."""
    return (bx - ax) * (py - ay) - (by - ay) * (px - ax)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _fill(
        points: np.ndarray, closeness: np.ndarray, a: int, b: int, c: int, face: int,
        triangles: np.ndarray, buffer: np.ndarray) -> None:
    """Draw one front-facing triangle into the buffers."""
    ax, ay, bx, by = points[a, 0], points[a, 1], points[b, 0], points[b, 1]
    cx, cy = points[c, 0], points[c, 1]
    area = edge(ax, ay, bx, by, cx, cy)
    # Facing the camera means negative area: image y points down. NaN fails this test too.
    if not area < -1e-9:
        return
    height, width = buffer.shape
    x0 = max(0, int(np.ceil(min(ax, bx, cx))))
    x1 = min(width - 1, int(np.floor(max(ax, bx, cx))))
    y0 = max(0, int(np.ceil(min(ay, by, cy))))
    y1 = min(height - 1, int(np.floor(max(ay, by, cy))))
    scale = 1.0 / area
    za, zb, zc = closeness[a], closeness[b], closeness[c]
    for y in range(y0, y1 + 1):
        for x in range(x0, x1 + 1):
            wa = edge(bx, by, cx, cy, x, y) * scale
            wb = edge(cx, cy, ax, ay, x, y) * scale
            wc = 1.0 - wa - wb
            if wa >= 0.0 and wb >= 0.0 and wc >= 0.0:
                z = wa * za + wb * zb + wc * zc
                if z > buffer[y, x]:
                    buffer[y, x] = z
                    triangles[y, x] = face


@numba.njit(cache=True, nogil=True)
def rasterize(
        points: np.ndarray, closeness: np.ndarray, faces: np.ndarray, triangles: np.ndarray,
        buffer: np.ndarray, first: int = 0) -> None:
    """
    Draw the faces that turn to the camera; pixel (i, j) samples the point x = j, y = i.

    points     (V, 2) float32  pixels
    closeness  (V,)   float32  greater is nearer, linear in the image (1/z for a pinhole camera);
                               triangles with a vertex at 0 or below are left out
    faces      (F, 3) int32    counter-clockwise seen from outside
    triangles  (H, W) int32    in/out: winning face + `first`, untouched where nothing is drawn
    buffer     (H, W) float32  in/out: its closeness; start from zeros
    """
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        if closeness[a] > 0.0 and closeness[b] > 0.0 and closeness[c] > 0.0:
            _fill(points, closeness, a, b, c, f + first, triangles, buffer)


@numba.njit(cache=True, nogil=True, fastmath=True)
def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals `(V, 3)` float32 of `vertices` `(V, 3)`."""
    normals = np.zeros_like(vertices)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = (vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1],
                      vertices[b, 2] - vertices[a, 2])
        vx, vy, vz = (vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1],
                      vertices[c, 2] - vertices[a, 2])
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(normals.shape[0]):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + 1e-12
        for k in range(3):
            normals[i, k] /= length
    return normals
