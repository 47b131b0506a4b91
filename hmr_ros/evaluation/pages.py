# SPDX-License-Identifier: Apache-2.0
"""Pictures to judge predictions by eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from hmr_ros.evaluation.metrics import LIMB_JOINTS
from hmr_ros.evaluation.prediction import Crops
from hmr_ros.perception.skeleton import JOINT_NAMES, PARENTS

_LEFT, _RIGHT, _MIDDLE = (0, 220, 0), (255, 60, 60), (250, 220, 0)
#: bones between the twelve labelled joints.
_LIMB_BONES = ((0, 2), (2, 4), (1, 3), (3, 5), (6, 8), (8, 10), (7, 9), (9, 11), (0, 1), (6, 7))
_EACH = 6


def best_median_worst(errors: np.ndarray, each: int = _EACH) -> np.ndarray:
    """Indices of the best, the middle and the worst `each` people, fewer when there are few."""
    order = np.argsort(errors)
    each = min(each, len(order))
    middle = (len(order) - each) // 2
    return np.concatenate([order[:each], order[middle:middle + each], order[-each:]])


def synthetic_page(
        crops: Crops, true: np.ndarray, predicted: np.ndarray, errors: np.ndarray,
        path: Path) -> None:
    """Write rows of best, median and worst people: true body left, predicted right."""
    tiles = []
    for i, transform in enumerate(crops.transforms):
        pair = []
        for label, points in (('true', true[i]), (f'{errors[i]:.0f} mm', predicted[i])):
            image = crops.images[i].copy()
            _skeleton(image, transform.to_crop(points[:24]))
            pair.append(_labelled(image, label))
        tiles.append(np.concatenate(pair, axis=1))
    _write(tiles, max(1, len(tiles) // 3), path)


def real_page(
        crops: Crops, true: np.ndarray, predicted: np.ndarray, hits: np.ndarray,
        path: Path) -> None:
    """Write all real people: labels left, predicted body right with its share of hits."""
    tiles = []
    for i, transform in enumerate(crops.transforms):
        labelled, found = crops.images[i].copy(), crops.images[i].copy()
        points = transform.to_crop(true[i])
        for a, b in _LIMB_BONES:
            colour = _MIDDLE if (a + b) % 2 else (_LEFT, _RIGHT)[a % 2]
            _line(labelled, points[a], points[b], colour)
        for j, point in enumerate(points):
            if not np.isnan(hits[i, j]):
                _dot(labelled, point, (_LEFT, _RIGHT)[j % 2])
        _skeleton(found, transform.to_crop(predicted[i, :24]))
        share = f'{np.nansum(hits[i]):.0f}/{np.sum(~np.isnan(hits[i]))}'
        tiles.append(np.concatenate(
            [_labelled(labelled, 'label'), _labelled(found, share)], axis=1))
    _write(tiles, 4, path)


def person_tile(picture: np.ndarray, height: int = 384) -> np.ndarray:
    """Shrink a square uint8 RGB picture of somebody upright, and keep its middle half."""
    side = picture.shape[1]
    middle = picture[:, side // 4:side - side // 4]
    return cv2.resize(middle, (height // 2, height), interpolation=cv2.INTER_AREA)


def strips_page(
        strips: Sequence[Sequence[np.ndarray]], labels: Sequence[Sequence[str]],
        path: Path) -> None:
    """Write rows of best, median and worst people, each some pictures of one size, labelled."""
    tiles = [np.concatenate([_labelled(picture.copy(), text)
                             for picture, text in zip(strip, texts)], axis=1)
             for strip, texts in zip(strips, labels)]
    _write(tiles, max(1, len(tiles) // 3), path)


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Write uint8 RGB `(H, W, 3)` as JPEG."""
    _write([picture], 1, path)


def _skeleton(image: np.ndarray, points: np.ndarray) -> None:
    for j in range(1, 24):
        name = JOINT_NAMES[j]
        colour = (_LEFT if name.startswith('left') else
                  _RIGHT if name.startswith('right') else _MIDDLE)
        _line(image, points[PARENTS[j]], points[j], colour)
        if j in LIMB_JOINTS:
            _dot(image, points[j], colour)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    # A lost joint may be anywhere; drawing needs small integers.
    x, y = np.clip(np.nan_to_num(point), -5000, 5000)
    return int(round(float(x))), int(round(float(y)))


def _line(image: np.ndarray, a: np.ndarray, b: np.ndarray, colour: tuple[int, ...]) -> None:
    cv2.line(image, _pixel(a), _pixel(b), colour, 2, cv2.LINE_AA)


def _dot(image: np.ndarray, point: np.ndarray, colour: tuple[int, ...]) -> None:
    cv2.circle(image, _pixel(point), 3, colour, -1, cv2.LINE_AA)


def _labelled(image: np.ndarray, text: str) -> np.ndarray:
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(image, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width,
                    cv2.LINE_AA)
    return image


def _write(tiles: list[np.ndarray], columns: int, path: Path) -> None:
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[k:k + columns], axis=1) for k in range(0, len(tiles), columns)]
    page = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(path), page, [cv2.IMWRITE_JPEG_QUALITY, 88])
