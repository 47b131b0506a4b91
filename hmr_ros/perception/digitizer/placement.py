# SPDX-License-Identifier: Apache-2.0
"""Where the digitized body stands before the real camera (sheet, section 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hmr_ros.perception.camera import Camera
from hmr_ros.perception.digitizer.depth import focal_length
from hmr_ros.perception.digitizer.framing import Framing
from hmr_ros.perception.digitizer.surface import Surface, to_world
from hmr_ros.perception.errors import PerceptionError


@dataclass(frozen=True)
class Placement:
    """
    From the virtual camera of the networks to the real camera's optical frame.

    rotation    (3, 3) float64, turns forward onto the ray through the middle of the square
    distance_m  metres along that ray to the point that is one unit before the virtual camera
    unit_m      metres of a unit
    """

    rotation: np.ndarray
    distance_m: float
    unit_m: float

    def points(self, points: np.ndarray) -> np.ndarray:
        """Place points `(..., 3)` of the virtual camera's axes, in units: float32 in metres."""
        moved = self.unit_m * (np.asarray(points, np.float64) - (0, 0, 1))
        return ((moved + (0, 0, self.distance_m)) @ self.rotation.T).astype(np.float32)

    def vertices(self, vertices: np.ndarray) -> np.ndarray:
        """Place vertices `(V, 3)` of a mesh, which are in the world, see `to_world`."""
        # Turned twice it is as it was.
        return self.points(to_world(vertices))


def place_at_distance(framing: Framing, camera: Camera, distance_m: float) -> Placement:
    """
    Place somebody whose distance is known.

    framing     the square that was digitized
    camera      of the whole image
    distance_m  metres from the camera to the middle of the body, along the ray

    Raises PerceptionError for a distance or an image that cannot be.
    """
    _check_positive('distance_m', distance_m)
    ray, focal = _ray(framing, camera)
    return Placement(_turn_to(ray), distance_m, distance_m * focal_length(framing.side) / focal)


def place_by_height(
        framing: Framing, camera: Camera, surface: Surface, height_m: float) -> Placement:
    """
    Place somebody whose height is known, standing with the hands below the crown.

    surface   what was digitized
    height_m  metres

    Raises PerceptionError for a height or an image that cannot be, or an empty surface.
    """
    _check_positive('height_m', height_m)
    unit_m = height_m / height_of(surface)
    ray, focal = _ray(framing, camera)
    return Placement(_turn_to(ray), unit_m * focal / focal_length(framing.side), unit_m)


def height_of(surface: Surface) -> float:
    """Units from the highest to the lowest point of a surface; PerceptionError when it has none."""
    if not surface.there.any():
        raise PerceptionError('the surface is empty, so it has no height; digitize again')
    return float(np.ptp([side[surface.there][:, 1] for side in (surface.front, surface.back)]))


def _ray(framing: Framing, camera: Camera) -> tuple[np.ndarray, float]:
    """
    Ray `(3,)` through the middle of the square, and pixels that an angle of 1 covers there.

    The latter is the focal length only on the axis: elsewhere the plane of the image is farther.
    """
    if (camera.width, camera.height) != (framing.width, framing.height):
        raise PerceptionError(
            f'the camera takes {camera.width}x{camera.height} pixels and the image has '
            f'{framing.width}x{framing.height}; give the camera of the same size, see '
            'Camera.resized')
    x, y = (framing.centre - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
    ray = np.array([x, y, 1.0])
    length = float(np.linalg.norm(ray))
    return ray / length, float(np.sqrt(camera.fx * camera.fy)) * length


def _turn_to(ray: np.ndarray) -> np.ndarray:
    """Turn forward onto a ray by the shortest way: `(3, 3)`."""
    x, y, z = ray
    return np.array([
        [1 - x * x / (1 + z), -x * y / (1 + z), x],
        [-x * y / (1 + z), 1 - y * y / (1 + z), y], [-x, -y, z]])


def _check_positive(name: str, value: float) -> None:
    if not np.isfinite(value) or value <= 0:
        raise PerceptionError(f'{name} is {value:g}; expected metres above 0')
