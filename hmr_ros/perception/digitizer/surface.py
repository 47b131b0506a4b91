# SPDX-License-Identifier: Apache-2.0
"""Both depths as points in space, and as a cloud with normals and colours (sheet, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hmr_ros.perception.digitizer.depth import focal_length, length_of, points_of, rays
from hmr_ros.perception.digitizer.normals import BACK, FRONT
from hmr_ros.perception.errors import PerceptionError

#: a longer ray or a point nearer to the camera's plane is no body.
_LONGEST, _NEAREST = 1.9, 0.3
_LIKELY = 0.5
#: pixels between both ends of a slope and its middle, and of the outline that has no slope.
_REACH = 2
#: of the outline: sides farther apart than so many pixels are joined by so many points.
_APART, _RIM = 2, 9


@dataclass(frozen=True)
class Surface:
    """
    A body as one camera sees it, first and last surface of every pixel.

    front, back  (S, S, 3) float32 points in the camera's axes, right, down, forward; units of the
                 subject's distance
    there        (S, S) bool, where both are
    """

    front: np.ndarray
    back: np.ndarray
    there: np.ndarray


@dataclass(frozen=True)
class Cloud:
    """
    Points of a surface in the world, see `to_world`, for meshing.

    points, normals  (N, 3) float32; normals of length 1 point outward
    colours          (N, 3) uint8 RGB
    """

    points: np.ndarray
    normals: np.ndarray
    colours: np.ndarray


def foreground(front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """
    Tell where a body is: bool `(S, S)` of both D `(S, S)`.

    Where the front is not behind the back, but for what no body reaches: as far as an empty front
    decodes to, or at the camera. NaN is background.
    """
    ahead = length_of(front) * rays(front.shape[0])[..., 2] > _NEAREST
    return (front <= back) & (length_of(back) <= _LONGEST) & ahead


def surface_of(front: np.ndarray, back: np.ndarray, mask: np.ndarray | None = None) -> Surface:
    """
    Take the surface of both D `(S, S)`.

    mask  (S, S) chance of being foreground; when given, 0.5 or less is background too

    Raises PerceptionError for arrays of other shapes.
    """
    side = front.shape[0]
    for name, plane in (('front', front), ('back', back), ('mask', mask)):
        if plane is not None and plane.shape != (side, side):
            raise PerceptionError(
                f'{name} of the digitizer has shape {plane.shape}; expected {(side, side)}')
    there = foreground(front, back)
    if mask is not None:
        there &= mask > _LIKELY
    return Surface(points_of(front), points_of(back), there)


def check_colours(surface: Surface, image: np.ndarray) -> None:
    """Raise PerceptionError unless `image` has RGB uint8 for each pixel of `surface`."""
    expected = (*surface.there.shape, 3)
    if image.shape != expected or image.dtype != np.uint8:
        raise PerceptionError(
            f'the image that colours a surface has shape {image.shape} of {image.dtype}; expected '
            f'{expected} of uint8, the image that the networks saw')


def cloud_of(surface: Surface, image: np.ndarray) -> Cloud:
    """
    Make a cloud of both sides without the outline, where slopes cannot be told.

    image  (S, S, 3) uint8 RGB; the back repeats the colours of the front

    Raises PerceptionError for an image of another size.
    """
    check_colours(surface, image)
    kernel = np.ones((2 * _REACH + 1,) * 2, np.uint8)
    # A border of the image is an outline, too.
    inner = cv2.erode(surface.there.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT,
                      borderValue=0) > 0
    sides = [(surface.front, FRONT), (surface.back, BACK)]
    turned = np.float32([1, -1, -1])
    return Cloud(
        to_world(np.concatenate([points[inner] for points, _ in sides])),
        turned * np.concatenate([_normals_of(points, inner, out) for points, out in sides]),
        np.tile(image[inner], (2, 1)))


def rim_of(surface: Surface, image: np.ndarray) -> Cloud:
    """
    Make a cloud between both sides along the outline, where they lie apart (sheet, section 5.5).

    Joined to that of `cloud_of` it keeps a mesh from bulging sideways where the two sides do not
    meet. Empty where they do. Raises PerceptionError for an image of another size.
    """
    check_colours(surface, image)
    there = surface.there.astype(np.uint8)
    outline = surface.there & (cv2.erode(there, np.ones((3, 3), np.uint8)) == 0)
    near, far = surface.front[outline], surface.back[outline]
    length = np.linalg.norm(near, axis=1)
    apart = np.linalg.norm(far - near, axis=1) > _APART * length / focal_length(there.shape[0])
    near, far = near[apart, None], far[apart, None]
    share = ((np.arange(_RIM) + 0.5) / _RIM)[:, None]
    outward = _sideways(there)[outline][apart]
    ray = near[:, 0] / length[apart, None]
    outward -= (outward * ray).sum(1, keepdims=True) * ray
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-12)
    return Cloud(
        to_world((near + share * (far - near)).reshape(-1, 3).astype(np.float32)),
        (np.repeat(outward, _RIM, 0) * (1, -1, -1)).astype(np.float32),
        np.repeat(image[outline][apart], _RIM, 0))


def stitched_cloud(surface: Surface, image: np.ndarray) -> Cloud:
    """Put the clouds of `cloud_of` and `rim_of` together, of which closed meshes are made."""
    clouds = cloud_of(surface, image), rim_of(surface, image)
    return Cloud(*(np.concatenate([getattr(cloud, name) for cloud in clouds])
                   for name in ('points', 'normals', 'colours')))


def _sideways(there: np.ndarray) -> np.ndarray:
    """Direction `(S, S, 3)` in the image, right and down, away from what is there."""
    inward = cv2.GaussianBlur(cv2.distanceTransform(there, cv2.DIST_L2, 5), (0, 0), _REACH)
    slopes = [cv2.Sobel(inward, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1))]
    return np.stack([-slopes[0], -slopes[1], np.zeros_like(inward)], 2)


def _normals_of(points: np.ndarray, inner: np.ndarray, outward: float) -> np.ndarray:
    """Normals `(N, 3)` of the N inner pixels, by the points on both sides of each."""
    rows, columns = np.nonzero(inner)
    right = points[rows, columns + _REACH] - points[rows, columns - _REACH]
    down = points[rows + _REACH, columns] - points[rows - _REACH, columns]
    normal = np.cross(right, down)
    # What both directions span always looks away from the camera: each pixel is one ray.
    return outward * normal / np.linalg.norm(normal, axis=1, keepdims=True)


def to_world(points: np.ndarray) -> np.ndarray:
    """
    Turn points `(..., 3)` of the camera's axes to x right, y up, z towards the camera.

    The origin is where the subject stands, one unit before the camera (sheet, section 1).
    """
    return points * np.float32([1, -1, -1]) + np.float32([0, 0, 1])
