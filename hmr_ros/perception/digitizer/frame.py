# SPDX-License-Identifier: Apache-2.0
"""The square image that the networks look at, of any image (sheet, section 1 and 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hmr_ros.perception.crops import check_image
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.resampling import resize

#: brightness, contrast and saturation of the training pictures.
_SCALE = 0.85
_LUMA = np.float32([0.299, 0.587, 0.114])
#: how many times smaller the image is that low networks see.
LOW = 8


@dataclass(frozen=True)
class Frame:
    """
    How an image of `height` x `width` pixels becomes a square of `resolution` pixels.

    The square's sides are the longer one of the image, which lies in its middle; an odd pixel more
    goes to the bottom or the right.
    """

    height: int
    width: int
    resolution: int

    @property
    def side(self) -> int:
        """Pixels of the square before it is resized."""
        return max(self.height, self.width)

    @property
    def offset(self) -> tuple[int, int]:
        """Return x, y in pixels of the image's first one in that square."""
        return (self.side - self.width) // 2, (self.side - self.height) // 2

    def square(self, image: np.ndarray) -> np.ndarray:
        """Continue the border of RGB uint8 `(H, W, 3)` to a square and resize it (bicubic)."""
        check_image(image, 'rgb')
        left, top = self.offset
        padded = cv2.copyMakeBorder(
            image, top, self.side - self.height - top, left, self.side - self.width - left,
            cv2.BORDER_REPLICATE)
        return padded if self.side == self.resolution else resize(padded, self.resolution)

    def joints(self, joints: Joints) -> Joints:
        """Take joints of the image to pixels of the square; what is missing stays so."""
        return Joints((joints.points + self.offset) * (self.resolution / self.side), joints.found)


def without_background(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blacken uint8 `(H, W, 3)` where bool `(H, W)` is False, before anything else is done."""
    if mask.shape != image.shape[:2]:
        raise PerceptionError(
            f'mask has shape {mask.shape}; expected {image.shape[:2]}, that of the image')
    return np.where(mask.astype(bool)[..., None], image, np.uint8(0))


def colours_of_training(image: np.ndarray) -> np.ndarray:
    """Take brightness, saturation and contrast of RGB `(H, W, 3)`, 0 to 255, down to 0.85."""
    image = _SCALE * image.astype(np.float32)
    image = _SCALE * image + (1 - _SCALE) * (image @ _LUMA)[..., None]
    return _SCALE * image + (1 - _SCALE) * np.mean(image @ _LUMA)


def planes_of(image: np.ndarray) -> np.ndarray:
    """Give a square RGB image `(S, S, 3)`, 0 to 255, as float32 `(3, S, S)`, -1 to 1."""
    return np.ascontiguousarray(np.moveaxis(image.astype(np.float32) / 127.5 - 1, 2, 0))


def low_resolution(planes: np.ndarray) -> np.ndarray:
    """Planes `(C, S, S)` an eighth the size, bilinear, not antialiased: `(C, S / 8, S / 8)`."""
    return _resized(planes, planes.shape[1] // LOW)


def enlarged(planes: np.ndarray) -> np.ndarray:
    """Planes `(C, s, s)` eight times the size, bilinear: `(C, 8s, 8s)`."""
    return _resized(planes, planes.shape[1] * LOW)


def _resized(planes: np.ndarray, side: int) -> np.ndarray:
    return np.stack([cv2.resize(plane, (side, side), interpolation=cv2.INTER_LINEAR)
                     for plane in planes])
