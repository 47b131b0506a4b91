# SPDX-License-Identifier: Apache-2.0
"""Patches of body parts, cut from an image and blended back into it (sheet, section 2)."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from hmr_ros.perception.digitizer.alignment import Alignment, PlacedPart
from hmr_ros.perception.digitizer.frame import enlarged
from hmr_ros.perception.digitizer.parts import PARTS, PATCHES, patch_size

#: by resolution: pixels left out at a patch's edge, taps and sigma of what blurs the rest.
_EDGES = {2048: (8, 15, 5.0), 1024: (4, 7, 2.5), 512: (2, 5, 1.25)}

#: what the pixel around a patch adds to places in it.
_BORDER = np.array([[0, 0, 1], [0, 0, 1]])


def sample(planes: np.ndarray, matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """
    Planes float32 `(C, H, W)` at other places, bilinear, 0 outside: `(C, height, width)`.

    matrix  affine map `(2, 3)` from pixels of the result to pixels of the planes

    OpenCV rounds places to a 32nd of a pixel, which is too coarse for normals.
    """
    columns, rows = np.arange(width), np.arange(height)[:, None]
    x, y = (row[0] * columns + row[1] * rows + row[2] for row in matrix)
    across, down = _taps(x, planes.shape[2]), _taps(y, planes.shape[1])
    flat = planes.reshape(len(planes), -1)
    result = np.zeros((len(planes), height, width), np.float32)
    for row, row_weight in down:
        for column, weight in across:
            result += (row_weight * weight) * flat[:, row * planes.shape[2] + column]
    return result


def _taps(at: np.ndarray, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each place along an axis of `count` pixels both neighbours, and their weights."""
    first = np.floor(at).astype(np.int64)
    return [(tap.clip(0, count - 1),
             ((1 - np.abs(at - tap)) * ((tap >= 0) & (tap < count))).astype(np.float32))
            for tap in (first, first + 1)]


def cut_patches(
        planes: np.ndarray, low_normals: np.ndarray, alignment: Alignment) -> dict[str, np.ndarray]:
    """
    Cut what the networks of parts see: float32 `(B, 6, h, w)` by the names of PATCHES.

    planes       (3, S, S) the image, -1 to 1
    low_normals  (6, S / 8, S / 8) of front and back; parts see those of the front alone

    B is how many parts share a network; parts that were dropped are 0.
    """
    both = np.concatenate([planes, enlarged(low_normals[:3])])
    batches = {name: np.zeros((sum(part.patch == name for part in PARTS), 6,
                               *patch_size(name, alignment.resolution)), np.float32)
               for name in PATCHES}
    for placed in alignment.placed:
        batches[placed.part.patch][_row_of(placed)] = sample(both, placed.to_image, *placed.size)
    return batches


def _row_of(placed: PlacedPart) -> int:
    """Row of a part in the batch of its network."""
    return [part for part in PARTS if part.patch == placed.part.patch].index(placed.part)


@functools.lru_cache(maxsize=len(_EDGES) * len(PATCHES))
def blend_weights(patch: str, resolution: int) -> np.ndarray:
    """Weights float32 `(h, w)` of a patch: 1 in the middle, fading to its edge; not writable."""
    inset, taps, sigma = _EDGES[resolution]
    kernel = cv2.getGaussianKernel(taps, sigma, cv2.CV_64F).ravel()
    down, across = (np.convolve(
        np.pad(np.ones(side - 2 * inset), inset), kernel, 'same')
        for side in patch_size(patch, resolution))
    weights = np.outer(down, across).astype(np.float32)
    weights.flags.writeable = False
    return weights


def blend(normals: dict[str, np.ndarray], alignment: Alignment) -> np.ndarray:
    """
    Blend normals of parts, as the networks gave them, into those of the image: `(6, S, S)`.

    normals  `(B, 6, h, w)` float32 by the names of PATCHES, as `cut_patches` has the patches

    Pixels that no part covers are 0.
    """
    side = alignment.resolution
    total = np.zeros((7, side, side), np.float32)
    for placed in alignment.placed:
        rows, columns = _reach_of(placed)
        patch = sample(
            _with_weights(normals[placed.part.patch][_row_of(placed)], placed),
            _moved(placed.to_patch, rows, columns) + _BORDER,
            rows.stop - rows.start, columns.stop - columns.start)
        patch[:6] *= patch[6]
        total[:, rows, columns] += patch
    return total[:6] / np.where(total[6] > 0, total[6], 1)


def covered(alignment: Alignment) -> np.ndarray:
    """Tell where `blend` finds a part: bool `(S, S)`."""
    result = np.zeros((alignment.resolution,) * 2, bool)
    for placed in alignment.placed:
        rows, columns = _reach_of(placed)
        weights = sample(
            np.pad(blend_weights(placed.part.patch, placed.resolution), 1)[None],
            _moved(placed.to_patch, rows, columns) + _BORDER,
            rows.stop - rows.start, columns.stop - columns.start)
        result[rows, columns] |= weights[0] > 0
    return result


def _with_weights(normals: np.ndarray, placed: PlacedPart) -> np.ndarray:
    """
    Normals and weights `(7, h + 2, w + 2)`, with a pixel more on each side.

    There normals go on and weights are 0: at 512 pixels weights begin above 0 at a patch's edge,
    where nothing outside would darken the normals.
    """
    weights = blend_weights(placed.part.patch, placed.resolution)
    return np.concatenate([
        np.pad(normals, ((0, 0), (1, 1), (1, 1)), 'edge'), np.pad(weights, 1)[None]])


def _reach_of(placed: PlacedPart) -> tuple[slice, slice]:
    """Rows and columns of the image that a patch may reach."""
    low = np.floor(placed.corners.min(0)).astype(int).clip(0, placed.resolution)
    high = np.ceil(placed.corners.max(0)).astype(int).clip(0, placed.resolution - 1) + 1
    return slice(low[1], high[1]), slice(low[0], high[0])


def _moved(matrix: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Return `matrix` for pixels that are counted from the first of `rows` and `columns`."""
    start = matrix[:, :2] @ (columns.start, rows.start)
    return np.column_stack([matrix[:, :2], matrix[:, 2] + start])
