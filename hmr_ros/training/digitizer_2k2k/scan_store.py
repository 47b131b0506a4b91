# SPDX-License-Identifier: Apache-2.0
"""Many scans in one file, each but the part of the image that shows the person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from hmr_ros.perception.digitizer.depth import BACK_EMPTY, from_file, FRONT_EMPTY, to_file
from hmr_ros.training.digitizer_2k2k.scans import Scan
from hmr_ros.training.synthetic.cutout_file import Pictures

_FRONT, _BACK = range(2)


@dataclass(frozen=True)
class ScanStore(Pictures):
    """
    Pictures of N scans without their meshes; `image`, `front` and `back` give whole images.

    pixels  (P, 4)      uint8 as in Scan.image
    depths  (P, 2)      uint16 of D, front and back, as depth pictures have it
    joints  (N, 31, 2)  float32 pixels
    unit_m  (N,)        float32 metres of a unit
    """

    PER_PIXEL: ClassVar[tuple[str, ...]] = ('pixels', 'depths')

    depths: np.ndarray
    joints: np.ndarray
    unit_m: np.ndarray

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return int(self.size)

    def image(self, index: int) -> np.ndarray:
        """Return colours and cover `(S, S, 4)` uint8 of one person."""
        return self._whole(self.pixels, index)

    def front(self, index: int) -> np.ndarray:
        """Return D of the first surface `(S, S)` float32 of one person."""
        return from_file(self._whole(self.depths, index)[..., _FRONT], FRONT_EMPTY)

    def back(self, index: int) -> np.ndarray:
        """Return D of the last surface `(S, S)` float32 of one person."""
        return from_file(self._whole(self.depths, index)[..., _BACK], BACK_EMPTY)

    def _whole(self, rows: np.ndarray, index: int) -> np.ndarray:
        x, y, width, height = self.frames[index]
        whole = np.zeros((self.resolution, self.resolution, rows.shape[1]), rows.dtype)
        whole[y:y + height, x:x + width] = rows[
            self.starts[index]:self.starts[index + 1]].reshape(height, width, -1)
        return whole

    @classmethod
    def of_scans(cls, scans: Iterable[Scan], resolution: int) -> ScanStore:
        """Store what is seen of scans, all of one resolution."""
        columns: dict[str, list[np.ndarray]] = {}
        for scan in scans:
            for name, value in _columns(scan).items():
                columns.setdefault(name, []).append(value)
        return cls.of(columns, resolution)


def _columns(scan: Scan) -> dict[str, np.ndarray]:
    there = scan.front <= scan.back
    frame = cv2.boundingRect((there | (scan.image[..., 3] > 0)).astype(np.uint8))
    x, y, width, height = frame
    inside = (slice(y, y + height), slice(x, x + width))
    depths = np.stack([np.where(there, to_file(side), np.uint16(0))
                       for side in (scan.front, scan.back)], 2)
    return {'pixels': scan.image[inside].reshape(-1, 4), 'depths': depths[inside].reshape(-1, 2),
            'frames': np.int32(frame), 'joints': scan.joints, 'unit_m': np.float32(scan.unit_m)}
