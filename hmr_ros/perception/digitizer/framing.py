# SPDX-License-Identifier: Apache-2.0
"""The square round one person of an image that the digitizer looks at (sheet, section 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hmr_ros.perception.crops import check_image
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.resampling import resize

#: of the square's side, from head to foot.
FILLED = 0.77
#: heights above the lowest pixel of somebody who stands or walks, as shares of the person's: of the
#: nose, eyes, ears, shoulders, hips, knees, ankles, and of toes and heels. Arms may be anywhere.
_HEIGHTS = {0: 0.91, 1: 0.93, 2: 0.93, 3: 0.925, 4: 0.925, 5: 0.82, 6: 0.82, 11: 0.54, 12: 0.54,
            13: 0.32, 14: 0.32, 15: 0.07, 16: 0.07, 17: 0.02, 18: 0.025, 19: 0.05, 20: 0.02,
            21: 0.025, 22: 0.05}
#: what clothes and hands add beside the outermost joints, and soles below, as shares of the height.
_BESIDE, _BELOW = 0.03, 0.01
#: pixels; a smaller person is no person.
_LEAST_SIDE = 16
#: longer sides of the image that the square may measure: more of it would be border than person.
_MOST_SIDES = 4


@dataclass(frozen=True)
class Framing:
    """
    A square of an image that may reach over its border.

    corner      (x, y) pixels of the image of the square's upper left corner
    side        pixels of the image
    width       of the image
    height      of the image
    resolution  S, pixels of what the networks see
    """

    corner: tuple[int, int]
    side: int
    width: int
    height: int
    resolution: int

    @property
    def centre(self) -> np.ndarray:
        """Middle of the square `(2,)` float64 in pixels of the image."""
        return np.add(self.corner, self.side / 2)

    def square(self, image: np.ndarray) -> np.ndarray:
        """
        Cut RGB uint8 `(height, width, 3)`, continue its border, and resize it: `(S, S, 3)`.

        Raises PerceptionError for an image of another size.
        """
        check_image(image, 'rgb')
        return self._resized(self._cut(image))

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Cut a mask bool `(height, width)`; the border goes on: bool `(S, S)`."""
        grey = self._cut(mask.astype(np.uint8) * np.uint8(255))
        return self._resized(grey[..., None])[..., 0] > 127

    def joints(self, joints: Joints) -> Joints:
        """Take joints of the image to pixels of the square; those outside the image are missing."""
        inside = ((joints.points >= 0) & (joints.points < (self.width, self.height))).all(1)
        points = (joints.points - self.corner) * (self.resolution / self.side)
        return Joints(points, joints.found & inside)

    def _cut(self, image: np.ndarray) -> np.ndarray:
        if image.shape[:2] != (self.height, self.width):
            raise PerceptionError(
                f'the image has {image.shape[1]}x{image.shape[0]} pixels; the square is one of '
                f'{self.width}x{self.height}')
        rows, columns = (
            np.arange(first, first + self.side).clip(0, size - 1)
            for first, size in zip(self.corner[::-1], image.shape))
        return image[rows[:, None], columns]

    def _resized(self, square: np.ndarray) -> np.ndarray:
        return square if self.side == self.resolution else resize(square, self.resolution)


def frame_person(box: np.ndarray, width: int, height: int, resolution: int) -> Framing:
    """
    Frame a person so that the longer side of the box fills 0.77 of the square.

    box            (4,) left, top, right, bottom of the whole person in pixels of the image; what
                   lies outside the image counts
    width, height  of the image

    Raises PerceptionError for a box that is not finite, is too small, shows nothing of the image,
    or is so large that the image shows hardly anything of it.
    """
    left, top, right, bottom = box = np.asarray(box, np.float64)
    if not np.isfinite(box).all() or max(right - left, bottom - top) < _LEAST_SIDE:
        raise PerceptionError(
            f'the person\'s box is {box.tolist()}; expected finite left, top, right, bottom with '
            f'a side of {_LEAST_SIDE} pixels or more')
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise PerceptionError(
            f'the person\'s box {box.tolist()} is outside the image of {width}x{height} pixels')
    most = _MOST_SIDES * max(width, height)
    if max(right - left, bottom - top) / FILLED > most:
        raise PerceptionError(
            f'the person\'s box {box.tolist()} wants a square of more than {most} pixels, and the '
            f'image has {width}x{height}; do the joints belong to this image, and does it show the '
            'person from head to foot?')
    side = int(np.ceil(max(right - left, bottom - top) / FILLED))
    x, y = np.rint(((left + right - side) / 2, (top + bottom - side) / 2)).astype(int)
    return Framing((int(x), int(y)), side, width, height, resolution)


def box_of(joints: Joints) -> np.ndarray:
    """
    Find the box `(4,)` of a whole person by joints in pixels of the image.

    Ends that were not found, and the crown, are put where those of somebody who stands would be.
    Raises PerceptionError when the joints found are all of about one height.
    """
    rows = [joint for joint in _HEIGHTS if joints.found[joint]]
    shares = np.array([_HEIGHTS[joint] for joint in rows])
    if not rows or np.ptp(shares) < 0.2:
        raise PerceptionError(
            f'{len(rows)} joints of head, trunk and legs were found, which do not say how large '
            'the person is. Give the box of the whole person, or more joints')
    points = joints.points[joints.found]
    slope, ground = np.polyfit(shares, joints.points[rows, 1], 1)
    height = abs(slope)
    (left, top), (right, bottom) = points.min(0), points.max(0)
    return np.array([
        left - _BESIDE * height, min(ground + slope, top), right + _BESIDE * height,
        max(ground, bottom + _BELOW * height)])
