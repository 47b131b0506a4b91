# SPDX-License-Identifier: Apache-2.0
"""Crops, resolution rows and decoding of the network rsc_net (sheet, sections 1.2 to 1.5)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy as np

from hmr_ros.perception import rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import CropStyle, CropTransform, cut_bilinear, cut_window
from hmr_ros.perception.outputs import check_shapes
from hmr_ros.perception.resampling import resize

IMAGE_SIZE = 224
JOINTS = 24
# The crop is this much larger than the longer side of the box.
MARGIN = 1.2
# Native sides in source pixels at which the next lower row of alpha begins.
THRESHOLDS = (224.0, 128.0, 64.0, 40.0)
ROWS = len(THRESHOLDS) + 1
# Training never showed smaller crops.
SMALLEST_TRAINED = 24.0
# A track changes its row when its side is beyond a threshold by this share of it.
HYSTERESIS = 0.05
# Focal length in crop pixels of the camera that predictions are meant for.
CROP_FOCAL = 5000.0
# Beyond, averaging differs by less than a grey level and costs a tenth.
_LARGEST_BICUBIC = 1024
_MOST_TRACKS = 256
_OUTPUT_SHAPES = {'pose6d': (6 * JOINTS,), 'betas': (10,), 'cam': (3,)}


@dataclass(frozen=True)
class Bodies:
    """
    Decoded bodies of N people; float32, the optical frame of the image.

    rotmats (N, 24, 3, 3)  rotations: pelvis to optical frame, then joints relative to parents
    betas   (N, 10)        shape coefficients
    transl  (N, 3)         metres; vertices = skinned vertices + transl
    """

    rotmats: np.ndarray
    betas: np.ndarray
    transl: np.ndarray


def native_side(box: np.ndarray, native_scale: float = 1.0) -> float:
    """
    Side of the crop of `box` (x0, y0, x1, y1) in source pixels, not rounded.

    native_scale  below 1 when a driver or codec had already enlarged the picture
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    return MARGIN * max(x1 - x0, y1 - y0) * native_scale


def rows_of(sides: np.ndarray) -> np.ndarray:
    """Rows of alpha, int32 `(N,)`, of native sides `(N,)` in pixels (sheet 1.3)."""
    return _rows(sides, np.asarray(THRESHOLDS))


def below_trained_range(sides: np.ndarray) -> np.ndarray:
    """Tell, bool `(N,)`, which sides are smaller than any of training."""
    return np.asarray(sides, np.float64) < SMALLEST_TRAINED


def _rows(sides: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    sides = np.asarray(sides, np.float64)
    return np.sum(sides[..., None] < thresholds, axis=-1, dtype=np.int32)


class RowSelector:
    """Rows of tracked people that do not flicker at a threshold; remembers the last tracks seen."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, int] = OrderedDict()

    def rows(self, track_ids: Sequence[str], sides: np.ndarray) -> np.ndarray:
        """Return int32 `(N,)` for N tracks; a person without a track, id '', has no history."""
        rows = np.zeros(len(track_ids), np.int32)
        for i, (track_id, side) in enumerate(zip(track_ids, sides)):
            before = self._rows.pop(track_id, None)
            rows[i] = rows_of(side) if before is None else _rows(side, _shifted(before))
            if track_id:
                self._rows[track_id] = int(rows[i])
        while len(self._rows) > _MOST_TRACKS:
            self._rows.popitem(last=False)
        return rows


def _shifted(row: int) -> np.ndarray:
    """Thresholds, each moved away from the side on which a track in `row` is."""
    below = np.arange(len(THRESHOLDS)) < row
    return np.where(below, 1 + HYSTERESIS, 1 - HYSTERESIS) * THRESHOLDS


def _native_window(box: np.ndarray, size: int) -> CropTransform:
    """Crop of whole image pixels around `box`, so that they can be cut before any resampling."""
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(1, round(native_side(box)))
    left, top = round(0.5 * (x0 + x1 - side)), round(0.5 * (y0 + y1 - side))
    return CropTransform(left + 0.5 * side, top + 0.5 * side, float(side), size)


def _crop_bicubic(image: np.ndarray, transform: CropTransform) -> np.ndarray:
    """Cut at native pixels, then resize: uint8 `(size, size[, 3])` in the image's colours."""
    if transform.side > _LARGEST_BICUBIC:
        return cut_bilinear(image, transform)
    window, size = cut_window(image, transform), transform.size
    resized = resize(window.reshape(*window.shape[:2], -1), size)
    return resized.reshape(size, size, *image.shape[2:])


#: how `hmr_ros.perception.crops.crop_people` makes the crops of this network.
CROPS = CropStyle(_native_window, _crop_bicubic)


def check_outputs(outputs: Mapping[str, np.ndarray]) -> None:
    """Raise PerceptionError when an output of the engine is missing or has another shape."""
    check_shapes(outputs, _OUTPUT_SHAPES, 'rsc_net')


def usable(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """
    Tell, bool `(N,)`, which people can be decoded: finite, and of positive scale.

    Nothing clamps the network's scale; a person of scale <= 0 has no place before the camera.
    """
    good = np.asarray(outputs['cam'])[:, 0] > 0
    for name in _OUTPUT_SHAPES:
        good &= np.all(np.isfinite(outputs[name]), axis=1)
    return good


def decode(
        outputs: Mapping[str, np.ndarray], transforms: Sequence[CropTransform],
        camera: Camera) -> Bodies:
    """
    Decode `pose6d`, `betas` and `cam` of N usable people.

    transforms the N crops; camera that of the full, rectified image
    """
    pose6d = np.asarray(outputs['pose6d'], np.float32)
    rotmats = rotations.matrix_from_6d(pose6d.reshape(-1, JOINTS, 6))
    transl = image_translation(outputs['cam'], transforms, camera)
    return Bodies(rotmats, np.asarray(outputs['betas'], np.float32), transl.astype(np.float32))


def crop_translation(cam: np.ndarray, size: int = IMAGE_SIZE) -> np.ndarray:
    """
    Translation `(N, 3)` float64, metres, in the camera of the crop, from `cam` (N, 3) s, tx, ty.

    That camera has CROP_FOCAL and its principal point at the centre of `size` pixels.
    """
    scale, tx, ty = np.asarray(cam, np.float64).T
    return np.stack([tx, ty, 2 * CROP_FOCAL / (size * scale + 1e-9)], axis=1)


def image_translation(
        cam: np.ndarray, transforms: Sequence[CropTransform], camera: Camera) -> np.ndarray:
    """
    Translation `(N, 3)` float64, metres, in the optical frame of the full image (sheet 1.4).

    Points in the plane of the body's origin keep their pixels; the tilt of the ray to people far
    from the image's centre is ignored.
    """
    scale, tx, ty = np.asarray(cam, np.float64).T
    x, y, side = np.array(
        [(t.center_x, t.center_y, t.side) for t in transforms], np.float64).reshape(-1, 3).T
    half = 0.5 * side * scale
    focal = 0.5 * (camera.fx + camera.fy)
    return np.stack(
        [tx + (x - camera.cx) / half, ty + (y - camera.cy) / half, focal / half], axis=1)
