# SPDX-License-Identifier: Apache-2.0
"""
Rotations in batches: axis-angle (radians), matrices, unit quaternions (w, x, y, z).

Every function takes any number of leading axes, keeps float32 and float64 as they come (anything
else becomes float32) and is accurate near the angles 0 and pi. Quaternions and axis-angle results
have w >= 0, that is angles of 0 to pi.
"""

from __future__ import annotations

import numpy as np


def _floating(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


_NEXT, _LAST = np.array([1, 2, 0]), np.array([2, 0, 1])


def cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cross products of `(..., 3)`; for the few vectors of a frame much faster than numpy's."""
    return first[..., _NEXT] * second[..., _LAST] - first[..., _LAST] * second[..., _NEXT]


def skew(vectors: np.ndarray) -> np.ndarray:
    """Return the matrices `(..., 3, 3)` with skew(a) @ b == cross(a, b) of `vectors` `(..., 3)`."""
    vectors = _floating(vectors)
    matrix = np.zeros((*vectors.shape, 3), vectors.dtype)
    x, y, z = np.moveaxis(vectors, -1, 0)
    matrix[..., 0, 1], matrix[..., 0, 2], matrix[..., 1, 2] = -z, y, -x
    matrix[..., 1, 0], matrix[..., 2, 0], matrix[..., 2, 1] = z, -y, x
    return matrix


def axis_angle_to_matrix(axis_angle: np.ndarray) -> np.ndarray:
    """Rotation vectors `(..., 3)` in radians to matrices `(..., 3, 3)`."""
    return quaternion_to_matrix(axis_angle_to_quaternion(axis_angle))


def axis_angle_to_quaternion(axis_angle: np.ndarray) -> np.ndarray:
    """Rotation vectors `(..., 3)` in radians to quaternions `(..., 4)` (w, x, y, z)."""
    axis_angle = _floating(axis_angle)
    half = 0.5 * np.linalg.norm(axis_angle, axis=-1, keepdims=True)
    # numpy's sinc is sin(pi x) / (pi x) and exact at 0.
    vector = 0.5 * np.sinc(half / np.pi).astype(axis_angle.dtype) * axis_angle
    quaternion = np.concatenate([np.cos(half), vector], axis=-1)
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_to_axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """Unit quaternions `(..., 4)` (w, x, y, z) to rotation vectors `(..., 3)`, angle 0 to pi."""
    quaternion = _floating(quaternion)
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., :1])
    tiny = sine < np.finfo(quaternion.dtype).tiny ** 0.5
    scale = np.where(tiny, quaternion.dtype.type(2), angle / np.where(tiny, 1, sine))
    return (scale * quaternion[..., 1:]).astype(quaternion.dtype)


def quaternion_to_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Quaternions `(..., 4)` (w, x, y, z), of unit length, to matrices `(..., 3, 3)`."""
    quaternion = _floating(quaternion)
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return np.stack(rows, axis=-1).reshape(*quaternion.shape[:-1], 3, 3)


def matrix_to_quaternion(matrix: np.ndarray) -> np.ndarray:
    """
    Rotation matrices `(..., 3, 3)` to quaternions `(..., 4)` (w, x, y, z), w >= 0.

    All four columns of 4 q q^T are formed and the one with the largest diagonal is taken, so no
    small number is ever divided by (Shepperd 1978).
    """
    matrix = _floating(matrix)
    m = {(i, j): matrix[..., i, j] for i in range(3) for j in range(3)}
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    wx, wy, wz = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
    xx, yy, zz = (1 + 2 * m[i, i] - trace for i in range(3))
    outer = np.stack([
        1 + trace, wx, wy, wz,
        wx, xx, xy, xz,
        wy, xy, yy, yz,
        wz, xz, yz, zz], axis=-1).reshape(*matrix.shape[:-2], 4, 4)
    best = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    quaternion = np.take_along_axis(outer, best[..., None, None], axis=-2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_to_axis_angle(matrix: np.ndarray) -> np.ndarray:
    """Rotation matrices `(..., 3, 3)` to rotation vectors `(..., 3)`, angle 0 to pi."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def rotation_angle(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle in radians `(...)` between rotation matrices `(..., 3, 3)`, accurate near 0 and pi."""
    first, second = _floating(first), _floating(second)
    return np.linalg.norm(matrix_to_axis_angle(np.swapaxes(first, -1, -2) @ second), axis=-1)


def quaternion_product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Product `(..., 4)` of quaternions (w, x, y, z): `second` is turned by `first`."""
    a, b, c, d = np.moveaxis(_floating(first), -1, 0)
    w, x, y, z = np.moveaxis(_floating(second), -1, 0)
    return np.stack([
        a * w - b * x - c * y - d * z, a * x + b * w + (c * z - d * y),
        a * y + c * w + (d * x - b * z), a * z + d * w + (b * y - c * x)], axis=-1)


def quaternion_conjugate(quaternion: np.ndarray) -> np.ndarray:
    """Return the inverses of unit quaternions `(..., 4)` (w, x, y, z)."""
    quaternion = _floating(quaternion)
    return quaternion * quaternion.dtype.type([1, -1, -1, -1])


def matrix_to_6d(matrix: np.ndarray) -> np.ndarray:
    """First two columns of matrices `(..., 3, 3)`, row by row: `(..., 6)` (rsc_net sheet, 1.5)."""
    matrix = _floating(matrix)
    return matrix[..., :2].reshape(*matrix.shape[:-2], 6)


def matrix_from_6d(numbers: np.ndarray) -> np.ndarray:
    """
    Rotation matrices `(..., 3, 3)` of any six numbers `(..., 6)` (rsc_net sheet, section 1.5).

    Gram-Schmidt on the two columns; columns that are zero or parallel give finite numbers, but no
    rotation.
    """
    columns = _floating(numbers).reshape(*np.shape(numbers)[:-1], 3, 2)
    first = _unit(columns[..., 0])
    second = columns[..., 1]
    second = _unit(second - np.sum(first * second, axis=-1, keepdims=True) * first)
    return np.stack([first, second, cross(first, second)], axis=-1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, vectors.dtype.type(1e-6))
