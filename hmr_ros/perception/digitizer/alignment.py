# SPDX-License-Identifier: Apache-2.0
"""Where each body part lies in the image: similarities of joints (sheet, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
import functools

import cv2
import numpy as np

from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.digitizer.parts import CANVAS, Part, PARTS, patch_size
from hmr_ros.perception.errors import PerceptionError

#: a part of whose patch less lies in the image is left out.
_LEAST_INSIDE = 0.25
_TORSO = (5, 6, 11, 12)
#: width of shoulders and hips, their mean, of a torso's height in a patch.
_TORSO_SHAPE = (1 / 9 + 1 / 12) / 2 / (1 / 6)
#: half of it is seen of somebody who is turned by 60 degrees.
_LEAST_FACING = 0.5


@dataclass(frozen=True)
class PlacedPart:
    """
    A part and the similarity `(2, 3)` float64 that takes the image to its patch.

    Both ends are normalised: -1 to 1 over the image, and 0 at the centre of the patch.
    """

    part: Part
    similarity: np.ndarray
    resolution: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the patch in pixels."""
        return patch_size(self.part.patch, self.resolution)

    @functools.cached_property
    def to_image(self) -> np.ndarray:
        """Affine map `(2, 3)` float64 from pixels of the patch to pixels of the image."""
        half = self.resolution / 2
        turned = np.linalg.inv(self.similarity[:, :2])
        origin = -turned @ self.similarity[:, 2]
        height, width = self.size
        first = np.array([(1 - width) / 2, (1 - height) / 2])
        return np.column_stack([turned, turned @ first + (origin + 1) * half - 0.5])

    @property
    def to_patch(self) -> np.ndarray:
        """Return the inverse of `to_image`."""
        return cv2.invertAffineTransform(self.to_image)

    @property
    def corners(self) -> np.ndarray:
        """Corners of the patch `(4, 2)` float64 in pixels of the image, one after another."""
        height, width = self.size
        edge = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
        return edge @ self.to_image[:, :2].T + self.to_image[:, 2]

    @property
    def inside(self) -> float:
        """How much of the patch the image shows, 0 to 1."""
        frame = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]]) * self.resolution - np.float32(0.5)
        patch = self.corners.astype(np.float32)
        shown, _ = cv2.intersectConvexConvex(patch, frame)
        return float(shown) / cv2.contourArea(patch)


@dataclass(frozen=True)
class Alignment:
    """
    The parts of one person in a square image of `resolution` pixels.

    placed   those that can be seen, in the order of PARTS
    dropped  why, by the names of the others
    """

    resolution: int
    placed: tuple[PlacedPart, ...]
    dropped: dict[str, str]


def align(joints: Joints, resolution: int) -> Alignment:
    """
    Place all parts of somebody who faces the camera.

    joints  in pixels of a square image of `resolution` pixels

    Raises PerceptionError for somebody who is seen from behind or from the side.
    """
    check_facing(joints)
    placed, dropped = [], {}
    for part in PARTS:
        found = place(part, joints, resolution)
        if isinstance(found, str):
            dropped[part.name] = found
        elif found.inside < _LEAST_INSIDE:
            dropped[part.name] = f'{found.inside:.0%} of it are in the image'
        else:
            placed.append(found)
    return Alignment(resolution, tuple(placed), dropped)


def check_facing(joints: Joints) -> None:
    """
    Raise PerceptionError when the torso is turned by 60 degrees or more.

    No similarity mirrors, so patches of somebody's back would be upside down. Where a joint of the
    torso is missing nothing is said.
    """
    if not joints.found[list(_TORSO)].all():
        return
    left_shoulder, right_shoulder, left_hip, right_hip = joints.points[list(_TORSO)]
    spine = (left_hip + right_hip - left_shoulder - right_shoulder) / 2
    across = (left_shoulder - right_shoulder + left_hip - right_hip) / 2
    # What the subject has on the left the image of a face to face has on the right.
    length = float(np.hypot(*spine))
    seen = float(across @ (spine[1], -spine[0])) / max(length, 1e-9) ** 2
    if seen < _LEAST_FACING * _TORSO_SHAPE:
        way = 'from behind or mirrored' if seen < 0 else 'from the side'
        raise PerceptionError(
            f'the person is seen {way}: shoulders and hips are {seen:.2f} of the torso\'s height '
            f'wide, expected {_LEAST_FACING * _TORSO_SHAPE:.2f} or more. Take an image from the '
            'front')


def place(part: Part, joints: Joints, resolution: int) -> PlacedPart | str:
    """Place one part by its joints in pixels of the square image, or say why that cannot be."""
    image = 2 * joints.points / resolution - 1
    anchors = [_mean_of(anchor.choices, image, joints.found) for anchor in part.anchors]
    found = [number for number, point in enumerate(anchors) if point is not None]
    if len(found) < part.needed:
        return f'{len(found)} of its joints were found, it needs {part.needed}'
    shrink = _shrink(part, anchors)
    if shrink is None:
        return 'the joints that say how long it is were not found'
    targets = np.array([part.anchors[number].target for number in found]) * (2 * shrink / CANVAS)
    similarity = fit_similarity(np.array([anchors[number] for number in found]), targets)
    if np.hypot(*similarity[:, 0]) < 1e-3:
        return 'its joints lie in one place'
    return PlacedPart(part, similarity, resolution)


def _mean_of(
        choices: tuple[tuple[int, ...], ...], points: np.ndarray,
        found: np.ndarray) -> np.ndarray | None:
    for group in choices:
        there = [joint for joint in group if found[joint]]
        if there:
            return points[there].mean(0)
    return None


def _shrink(part: Part, anchors: list[np.ndarray | None]) -> float | None:
    """By what targets are multiplied; None where it cannot be known."""
    for first, second, longest in part.limits:
        if anchors[first] is not None and anchors[second] is not None:
            length = np.hypot(*(anchors[first] - anchors[second])) * CANVAS / 2
            return min(1.0, float(length) / longest)
    return None if part.limits else 1.0


def fit_similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Fit `[[a, -b, tx], [b, a, ty]]` float64 that takes points `(N, 2)` to targets (N, 2)."""
    x, y = points.T
    one, none = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([
        np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])
    a, b, tx, ty = np.linalg.lstsq(rows, targets.T.ravel(), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])
