# SPDX-License-Identifier: Apache-2.0
"""Square, normalised person crops and the exact maps between image and crop."""

from __future__ import annotations

from dataclasses import dataclass
import functools
from typing import Callable, Sequence

import cv2
import numpy as np

from hmr_ros.perception.errors import PerceptionError

# The crop is this much larger than the longer side of the box.
MARGIN = 1.25
# Finer sampling of large crops stops here: beyond, it costs more than it shows.
MOST_FINER = 4
#: which channel of an image of each colour order is red, green and blue.
RGB_PLANES = {'rgb': (0, 1, 2), 'bgr': (2, 1, 0), 'gray': (0, 0, 0)}


@dataclass(frozen=True)
class CropTransform:
    """
    A square crop: centre `center_x, center_y` and `side` in image pixels, `size` in crop pixels.

    x_crop = (x - center_x) * size / side + size / 2, the same for y.
    """

    center_x: float
    center_y: float
    side: float
    size: int

    @classmethod
    def from_box(cls, box: np.ndarray, size: int) -> CropTransform:
        """Crop of `size` pixels around `box` (x0, y0, x1, y1); `usable_box` must hold."""
        x0, y0, x1, y1 = (float(value) for value in box)
        return cls(0.5 * (x0 + x1), 0.5 * (y0 + y1), MARGIN * max(x1 - x0, y1 - y0), size)

    @property
    def matrix(self) -> np.ndarray:
        """Affine map `(2, 3)` float32 from image pixels to crop pixels."""
        scale, half = self.size / self.side, 0.5 * self.size
        return np.float32([
            [scale, 0, half - self.center_x * scale], [0, scale, half - self.center_y * scale]])

    def to_crop(self, points: np.ndarray) -> np.ndarray:
        """Image pixels `(..., 2)` to crop pixels."""
        center = (self.center_x, self.center_y)
        return (np.asarray(points) - center) * (self.size / self.side) + 0.5 * self.size

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Crop pixels `(..., 2)` to image pixels, the inverse of `to_crop`."""
        center = (self.center_x, self.center_y)
        return (np.asarray(points) - 0.5 * self.size) * (self.side / self.size) + center


def usable_box(box: np.ndarray, width: int, height: int) -> bool:
    """
    Tell whether `box` (x0, y0, x1, y1) shows anything of a `width` x `height` image.

    False for boxes that are not finite, empty or inverted, or wholly outside the image.
    """
    box = np.asarray(box, np.float64)
    if box.shape != (4,) or not np.all(np.isfinite(box)):
        return False
    x0, y0, x1, y1 = box
    # Less than a pixel is nobody, and beyond 1e5 pixels the affine map loses its precision.
    return bool(
        x1 - x0 >= 1 and y1 - y0 >= 1 and max(x1 - x0, y1 - y0) < 1e5
        and x0 < width and y0 < height and x1 > 0 and y1 > 0)


def check_image(image: np.ndarray, color_order: str) -> None:
    """Raise PerceptionError unless `image` is non-empty uint8 of a known `color_order`."""
    if color_order not in RGB_PLANES:
        raise PerceptionError(
            f'color_order is {color_order!r}; expected one of {", ".join(sorted(RGB_PLANES))}')
    shape = '(H, W)' if color_order == 'gray' else '(H, W, 3)'
    dimensions = 2 if color_order == 'gray' else 3
    if (image.dtype != np.uint8 or image.ndim != dimensions or image.size == 0
            or (dimensions == 3 and image.shape[2] != 3)):
        raise PerceptionError(
            f'image has shape {image.shape} and dtype {image.dtype}; a {color_order} image must be '
            f'uint8 {shape} with at least one pixel. Convert it before the call')


@functools.lru_cache(maxsize=8)
def level_table(mean: float, std: float) -> np.ndarray:
    """Return, float32 `(256,)`, what each grey level of a channel is in a batch: do not write."""
    return ((np.arange(256, dtype=np.float64) / 255 - mean) / std).astype(np.float32)


def normalise(
        crop: np.ndarray, color_order: str, tables: Sequence[np.ndarray], row: np.ndarray) -> None:
    """
    Write a crop into a row of a batch.

    crop    uint8 `(H, W, 3)` in `color_order` 'rgb' or 'bgr', or `(H, W)` for 'gray'
    tables  see `level_tables`
    row     float32 `(3, H, W)`, R, G, B
    """
    planes = [crop] if crop.ndim == 2 else cv2.split(crop)
    # A table look-up per channel is several times faster than float arithmetic on every pixel.
    for target, source, table in zip(row, RGB_PLANES[color_order], tables):
        cv2.LUT(planes[source], table, target)


def finer_sampling(transform: CropTransform) -> int:
    """Return how many times finer than its pixels, along both axes, a crop is sampled."""
    return min(MOST_FINER, max(1, int(transform.side / transform.size)))


def sampling_matrix(transform: CropTransform) -> np.ndarray:
    """Affine map `(2, 3)` float64 from image pixels to the samples of a crop."""
    finer = finer_sampling(transform)
    matrix = finer * transform.matrix.astype(np.float64)
    # The mean of `finer` pixels lies this far behind the first of them.
    matrix[:, 2] += 0.5 * (finer - 1)
    return matrix


def cut_bilinear(image: np.ndarray, transform: CropTransform) -> np.ndarray:
    """
    Cut one crop: uint8 `(size, size[, 3])` in the image's colours, bilinear, black outside it.

    A crop of at least twice its size in image pixels is sampled that many times finer and averaged,
    so that fine patterns do not alias. `image` is uint8 `(H, W[, 3])`.
    """
    size, finer = transform.size, finer_sampling(transform)
    crop = cv2.warpAffine(
        image, sampling_matrix(transform), (finer * size, finer * size), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    if finer > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return crop


def cut_unfiltered(image: np.ndarray, transform: CropTransform) -> np.ndarray:
    """
    Cut as `cut_bilinear` does, but with one sample for each pixel however large the crop is.

    Fine patterns alias; networks that were trained so want it so.
    """
    return cv2.warpAffine(
        image, transform.matrix.astype(np.float64), (transform.size, transform.size),
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def crop_person(image: np.ndarray, color_order: str, transform: CropTransform) -> np.ndarray:
    """
    Cut one crop as `cut_bilinear` does, in RGB: uint8 `(size, size, 3)`.

    `image` is uint8 `(H, W, 3)` in `color_order` 'rgb' or 'bgr', or `(H, W)` for 'gray'.
    """
    crop = cut_bilinear(image, transform)
    code = {'rgb': None, 'bgr': cv2.COLOR_BGR2RGB, 'gray': cv2.COLOR_GRAY2RGB}[color_order]
    return crop if code is None else cv2.cvtColor(crop, code)


def cut_window(image: np.ndarray, transform: CropTransform) -> np.ndarray:
    """
    Cut the image pixels of one crop: uint8 `(side, side[, 3])`, black outside the image.

    `image` is uint8 `(H, W[, 3])`; the crop's side and left upper corner must be whole numbers.
    """
    side = round(transform.side)
    left, top = round(transform.center_x - 0.5 * side), round(transform.center_y - 0.5 * side)
    height, width = image.shape[:2]
    rows, columns = (slice(max(low, 0), max(min(low + side, end), 0))
                     for low, end in ((top, height), (left, width)))
    window = np.zeros((side, side, *image.shape[2:]), np.uint8)
    part = image[rows, columns]
    window[rows.start - top:, columns.start - left:][:part.shape[0], :part.shape[1]] = part
    return window


@dataclass(frozen=True)
class CropStyle:
    """
    How a network wants its crops.

    place  makes the CropTransform of a usable box (x0, y0, x1, y1) and a size in crop pixels
    cut    cuts it from an image in that one's colours, as `cut_bilinear` does
    aspect width of what the network sees, as a share of the crop's: its middle columns
    """

    place: Callable[[np.ndarray, int], CropTransform]
    cut: Callable[[np.ndarray, CropTransform], np.ndarray]
    aspect: float = 1.0

    def columns(self, size: int) -> slice:
        """Columns of a crop of `size` pixels that the network sees."""
        width = round(self.aspect * size)
        first = (size - width) // 2
        return slice(first, first + width)


BILINEAR = CropStyle(CropTransform.from_box, cut_bilinear)


def place_crops(
        image: np.ndarray, color_order: str, boxes: np.ndarray, size: int,
        style: CropStyle = BILINEAR) -> list[CropTransform | None]:
    """
    Place the crops of `size` pixels around `boxes` (M, 4): x0, y0, x1, y1 in pixels.

    None where a box was rejected (see `usable_box`): bad boxes never raise. An image that cannot
    be used raises PerceptionError.
    """
    check_image(image, color_order)
    height, width = image.shape[:2]
    return [
        style.place(box, size) if usable_box(box, width, height) else None
        for box in boxes]


def level_tables(mean: Sequence[float], std: Sequence[float]) -> list[np.ndarray]:
    """Return the `level_table` of R, G and B."""
    return [level_table(float(m), float(s)) for m, s in zip(mean, std)]


def cut_crops(
        image: np.ndarray, color_order: str, transforms: Sequence[CropTransform], size: int,
        mean: Sequence[float], std: Sequence[float], style: CropStyle = BILINEAR) -> np.ndarray:
    """
    Cut and normalise crops that `place_crops` has placed: float32 `(N, 3, size, width)`.

    mean, std  per channel R, G, B of values 0 to 1
    style      how they are sampled; its `aspect` says the width
    """
    columns, tables = style.columns(size), level_tables(mean, std)
    batch = np.empty((len(transforms), 3, size, columns.stop - columns.start), np.float32)
    for row, transform in zip(batch, transforms):
        normalise(style.cut(image, transform)[:, columns], color_order, tables, row)
    return batch


def crop_people(
        image: np.ndarray, color_order: str, boxes: np.ndarray, size: int,
        mean: Sequence[float], std: Sequence[float], style: CropStyle = BILINEAR,
) -> tuple[np.ndarray, list[CropTransform | None]]:
    """
    Place, cut and normalise the crops of all people of one frame.

    image  uint8 `(H, W, 3)` in `color_order` 'rgb' or 'bgr', or `(H, W)` for 'gray'
    boxes  `(M, 4)` x0, y0, x1, y1 in pixels
    mean, std  per channel R, G, B of values 0 to 1
    style  where the crops lie and how they are sampled

    Returns the batch float32 `(N, 3, size, width)` of the N usable boxes in their order, and M
    transforms, None where a box was rejected; raises as `place_crops` does.
    """
    transforms = place_crops(image, color_order, boxes, size, style)
    used = [transform for transform in transforms if transform is not None]
    return cut_crops(image, color_order, used, size, mean, std, style), transforms
