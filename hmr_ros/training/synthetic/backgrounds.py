# SPDX-License-Identifier: Apache-2.0
"""Backgrounds: drawn rooms, streets and clutter, and any folder of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from hmr_ros.training.synthetic.errors import SyntheticError

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


def _colour(rng: np.random.Generator, vivid: float = 0.2) -> tuple[int, int, int]:
    """Draw a colour, mostly dull; `vivid` is its spread about grey."""
    grey = rng.uniform(20, 235)
    return tuple(int(v) for v in np.clip(grey + rng.normal(0, 255 * vivid * 0.5, 3), 0, 255))


def _clouds(rng: np.random.Generator, size: int, coarse: int, amount: float) -> np.ndarray:
    """Smooth noise `(size, size, 3)` float32 of mean 0 in several octaves."""
    total = np.zeros((size, size, 3), np.float32)
    cells = coarse
    while cells < size:
        patch = rng.normal(size=(cells, cells, 1)) + 0.3 * rng.normal(size=(cells, cells, 3))
        total += amount * cv2.resize(patch.astype(np.float32), (size, size),
                                     interpolation=cv2.INTER_LINEAR)
        cells, amount = cells * 3, amount * 0.6
    return total


def _quad(image: np.ndarray, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    cv2.fillConvexPoly(image, np.round(points).astype(np.int32), colour, cv2.LINE_AA)


def _room(rng: np.random.Generator, size: int) -> np.ndarray:
    """A floor, two walls, and furniture-like blocks."""
    image = np.empty((size, size, 3), np.uint8)
    image[:] = _colour(rng, 0.12)
    corner, floor = rng.uniform(-0.3, 1.3) * size, rng.uniform(0.35, 0.8) * size
    slope = rng.uniform(-0.3, 0.3, 2) * size
    _quad(image, np.float64([[corner, 0], [size, 0], [size, size], [corner, size]]),
          _colour(rng, 0.12))
    _quad(image, np.float64([[0, floor + slope[0]], [corner, floor], [size, floor + slope[1]],
                             [size, size + 1], [0, size + 1]]), _colour(rng, 0.15))
    for _ in range(rng.integers(0, 9)):  # tiles and boards run to one vanishing point
        start = rng.uniform(-1, 2) * size
        cv2.line(image, (int(corner), int(floor)), (int(start), size), _colour(rng, 0.1),
                 int(rng.integers(1, 3)), cv2.LINE_AA)
    for _ in range(rng.integers(1, 9)):
        _block(rng, image)
    return image


def _block(rng: np.random.Generator, image: np.ndarray) -> None:
    """A cupboard, door, window or picture: a rectangle with a frame and shelves."""
    size = len(image)
    w, h = size * np.exp(rng.uniform(np.log(0.05), np.log(0.5), 2))
    x, y = rng.uniform(-0.1, 1, 2) * size
    cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), _colour(rng), -1)
    if rng.random() < 0.6:
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), _colour(rng),
                      int(rng.integers(1, 6)))
    for i in range(rng.integers(0, 6)):
        level = int(y + h * (i + 1) / 6)
        cv2.line(image, (int(x), level), (int(x + w), level), _colour(rng), 2)


def _street(rng: np.random.Generator, size: int) -> np.ndarray:
    """Sky, houses with windows, trees, a road and cars."""
    image = np.empty((size, size, 3), np.uint8)
    horizon = int(rng.uniform(0.1, 0.6) * size)
    image[:] = tuple(int(v) for v in np.clip(rng.normal((185, 205, 225), 25), 60, 255))
    x = -rng.uniform(0, 0.2) * size
    while x < size:
        x += _house(rng, image, int(x), horizon)
    image[horizon:] = _colour(rng, 0.08)
    edge = rng.uniform(-0.5, 1.5, 2) * size
    meet = rng.uniform(0, 1) * size
    _quad(image, np.float64([[meet, horizon], [edge[0], size + 1], [edge[1], size + 1]]),
          _colour(rng, 0.06))
    for _ in range(rng.integers(0, 5)):
        end = int(rng.uniform(-0.5, 1.5) * size)
        cv2.line(image, (int(meet), horizon), (end, size), _colour(rng, 0.1),
                 int(rng.integers(1, 7)), cv2.LINE_AA)
    for _ in range(rng.integers(0, 4)):
        _tree(rng, image, horizon)
    for _ in range(rng.integers(0, 3)):
        _car(rng, image, horizon)
    return image


def _house(rng: np.random.Generator, image: np.ndarray, x: int, horizon: int) -> int:
    """Draw one house front and return its width."""
    size = len(image)
    width, top = int(rng.uniform(0.12, 0.5) * size), int(rng.uniform(-0.3, 0.8) * horizon)
    base = min(size, horizon + int(0.1 * size))
    cv2.rectangle(image, (x, top), (x + width, base), _colour(rng, 0.18), -1)
    step, pane = int(rng.uniform(0.05, 0.14) * size), _colour(rng, 0.1)
    share = rng.uniform(0.3, 0.8)
    for wx in range(x + step // 3, x + width - step // 2, step):
        for wy in range(top + step // 3, base - step // 2, int(step * 1.3)):
            cv2.rectangle(image, (wx, wy), (wx + int(step * share), wy + int(step * share)), pane,
                          -1)
    return width


def _tree(rng: np.random.Generator, image: np.ndarray, horizon: int) -> None:
    size = len(image)
    x, tall = int(rng.uniform(0, 1) * size), rng.uniform(0.15, 0.5) * size
    foot = horizon + int(rng.uniform(0, 0.15) * size)
    cv2.line(image, (x, foot), (x, int(foot - tall)), (70, 55, 42), max(2, int(tall * 0.06)))
    for _ in range(30):
        leaf = np.clip(rng.normal((60, 95, 45), 22), 0, 255)
        centre = (int(x + rng.normal(0, 0.22) * tall), int(foot - tall * rng.uniform(0.6, 1.2)))
        cv2.circle(image, centre, int(tall * rng.uniform(0.05, 0.14)),
                   tuple(int(v) for v in leaf), -1, cv2.LINE_AA)


def _car(rng: np.random.Generator, image: np.ndarray, horizon: int) -> None:
    size = len(image)
    x, y = rng.uniform(-0.1, 0.9) * size, horizon + rng.uniform(0.0, 0.35) * size
    w = rng.uniform(0.12, 0.4) * size
    h, paint = 0.22 * w, _colour(rng, 0.5)
    roof = [[x + .18 * w, y - h], [x + .3 * w, y - 2 * h], [x + .75 * w, y - 2 * h],
            [x + .9 * w, y - h]]
    _quad(image, np.float64(roof), _colour(rng, 0.08))
    cv2.rectangle(image, (int(x), int(y - h)), (int(x + w), int(y)), paint, -1)
    for share in (0.22, 0.78):
        cv2.circle(image, (int(x + share * w), int(y)), int(0.09 * w), (24, 24, 26), -1,
                   cv2.LINE_AA)


def _clutter(rng: np.random.Generator, size: int) -> np.ndarray:
    """Lines, blobs, limbs and blocks without meaning: what must not be taken for a person."""
    image = np.empty((size, size, 3), np.uint8)
    image[:] = _colour(rng)
    for _ in range(rng.integers(4, 26)):
        kind, at = rng.integers(4), tuple(int(v) for v in rng.uniform(0, size, 2))
        if kind == 0:
            axes = tuple(int(v) for v in size * np.exp(rng.uniform(np.log(.02), np.log(.3), 2)))
            cv2.ellipse(image, at, axes, rng.uniform(0, 180), 0, 360, _colour(rng), -1,
                        cv2.LINE_AA)
        elif kind == 1:
            end = tuple(int(v) for v in np.add(at, rng.normal(0, 0.3 * size, 2)))
            cv2.line(image, at, end, _colour(rng), int(rng.integers(1, 26)), cv2.LINE_AA)
        elif kind == 2:
            _block(rng, image)
        else:
            points = np.add(at, rng.normal(0, 0.12 * size, (rng.integers(3, 7), 2)))
            hull = cv2.convexHull(points.astype(np.int32))
            cv2.fillPoly(image, [hull], _colour(rng), cv2.LINE_AA)
    return image


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    """A gradient: studio, sky, wall."""
    corners = np.float32([[_colour(rng, 0.2), _colour(rng, 0.2)],
                          [_colour(rng, 0.2), _colour(rng, 0.2)]])
    return cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


_KINDS: tuple[tuple[Callable, float], ...] = (
    (_room, 0.32), (_street, 0.34), (_clutter, 0.24), (_plain, 0.10))


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw one background `(size, size, 3)` uint8 RGB."""
    shares = [share for _, share in _KINDS]
    image = _KINDS[rng.choice(len(_KINDS), p=shares)][0](rng, size).astype(np.float32)
    image += _clouds(rng, size, int(rng.integers(2, 6)), rng.uniform(1, 13))
    if rng.random() < 0.5:  # light falls off from one side
        ramp = np.linspace(rng.uniform(0.5, 1), rng.uniform(0.7, 1.2), size, dtype=np.float32)
        image *= (ramp[:, None] if rng.random() < 0.5 else ramp)[..., None]
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 3.5))
    return np.clip(image, 0, 255).astype(np.uint8)


def read_backgrounds(folder: str | Path, size: int, most: int = 400) -> list[np.ndarray]:
    """
    Read pictures of a folder and its sub-folders as RGB squares of `size` pixels.

    Wide pictures give several squares. Raises SyntheticError when there is no picture.
    """
    paths = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in _SUFFIXES)
    images: list[np.ndarray] = []
    for path in paths[:most]:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None or min(image.shape[:2]) < 64:
            continue
        scale = size / min(image.shape[:2])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[..., ::-1]
        h, w = image.shape[:2]
        for start in {0, max(h, w) - size}:
            y, x = (start, 0) if h > w else (0, start)
            square = image[y:y + size, x:x + size]
            if square.shape == (size, size, 3):
                images.append(np.ascontiguousarray(square))
    if not images:
        raise SyntheticError(
            f'{folder}: no readable picture of at least 64 pixels ({", ".join(_SUFFIXES)}); give a '
            'folder of photographs or none')
    return images


def background_pool(
        rng: np.random.Generator, count: int, size: int,
        folder: str | Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Drawn backgrounds `(count, size, size, 3)` and those of a folder `(M, size, size, 3)`."""
    drawn = np.stack([draw_background(rng, size) for _ in range(count)])
    photos = read_backgrounds(folder, size) if folder else []
    return drawn, np.array(photos, np.uint8).reshape(-1, size, size, 3)
