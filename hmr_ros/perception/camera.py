# SPDX-License-Identifier: Apache-2.0
"""The pinhole camera as the live path sees it."""

from __future__ import annotations

from dataclasses import dataclass
import enum

import numpy as np

from hmr_ros.perception.errors import PerceptionError

# Nearer than this nothing is projected.
NEAREST_M = 0.05


class CameraSource(enum.IntEnum):
    """Where a camera's numbers came from; values equal SmplArray.CAMERA_*."""

    UNKNOWN = 0
    CALIBRATED = 1
    ASSUMED = 2


@dataclass(frozen=True)
class Camera:
    """
    Pinhole camera of a rectified image; optical frame (x right, y down, z forward).

    `fx, fy, cx, cy` are in pixels of an image of `width` x `height` pixels.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    source: CameraSource = CameraSource.CALIBRATED

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy)
        if not np.all(np.isfinite(numbers)) or self.fx <= 0 or self.fy <= 0:
            raise PerceptionError(
                f'camera matrix has fx={self.fx}, fy={self.fy}, cx={self.cx}, cy={self.cy}; '
                'expected finite numbers with positive focal lengths. Calibrate the camera or set '
                'fallback_fov_deg')

    @classmethod
    def from_fov(cls, width: int, height: int, fov_deg: float) -> Camera:
        """Camera with a guessed vertical field of view and a central principal point."""
        focal = 0.5 * height / np.tan(np.radians(0.5 * fov_deg))
        return cls(focal, focal, 0.5 * width, 0.5 * height, width, height, CameraSource.ASSUMED)

    def resized(self, width: int, height: int) -> Camera:
        """Return the same camera for the same view in another resolution."""
        sx, sy = width / self.width, height / self.height
        return Camera(
            self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy, width, height, self.source)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points `(..., 3)` in metres to pixels `(..., 2)`; depth must be positive."""
        xy = points[..., :2] / points[..., 2:3]
        return xy * np.float32([self.fx, self.fy]) + np.float32([self.cx, self.cy])

    def project_ahead(self, points: np.ndarray) -> np.ndarray:
        """
        Project points `(..., 3)` in metres wherever they are: float32 pixels `(..., 2)`.

        A point behind the camera has no pixel; the nearest depth keeps its projection finite.
        """
        depth = np.maximum(points[..., 2:], NEAREST_M)
        return self.project(np.concatenate([points[..., :2], depth], axis=-1)).astype(np.float32)
