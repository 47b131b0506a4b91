# SPDX-License-Identifier: Apache-2.0
"""Bodies of known shape as the digitizer's camera sees them (sheet, section 11)."""

from __future__ import annotations

import numpy as np

from hmr_ros.perception.digitizer.depth import BACK_EMPTY, depth_of, FRONT_EMPTY

CENTRE = np.array([0, 0, 1.0])
ELLIPSOID = np.array([0.12, 0.35, 0.07])
SPHERE = np.array([0.3, 0.3, 0.3])
#: ends and radii.
CAPSULES = (
    ((0, -.30, 1), (0, -.27, 1), .045), ((0, -.2, 1), (0, 0, 1), .065),
    ((.06, -.2, 1), (.20, -.05, .98), .022), ((-.06, -.2, 1), (-.20, -.05, 1.02), .022),
    ((.04, .02, 1), (.07, .32, 1), .03), ((-.04, .02, 1), (-.07, .32, 1), .03))
Hits = tuple[np.ndarray, np.ndarray]


def ray_of(side: int) -> np.ndarray:
    """Rays in float64, of their own formula: through the middle of pixels, 50 degrees wide."""
    across = (np.arange(side) + 0.5 - side / 2) / (side / 2) * np.tan(np.radians(25))
    ray = np.stack([*np.meshgrid(across, across), np.ones((side, side))], -1)
    return ray / np.linalg.norm(ray, axis=-1, keepdims=True)


def roots(a: np.ndarray, b: np.ndarray, c: np.ndarray | float) -> Hits:
    """Both solutions of a t^2 + 2 b t + c = 0, NaN where there are none."""
    with np.errstate(invalid='ignore'):
        root = np.sqrt(b * b - a * c)
    return (-b - root) / a, (-b + root) / a


def ellipsoid_hits(half_axes: np.ndarray, side: int) -> Hits:
    """Lengths `(S, S)` to the first and the last hit of each ray, NaN where it misses."""
    ray, centre = ray_of(side) / half_axes, CENTRE / half_axes
    return roots((ray * ray).sum(-1), -ray @ centre, centre @ centre - 1)


def capsule_hits(side: int) -> Hits:
    """The same of the body of six capsules."""
    ray, first, last = ray_of(side), [], []
    for start, end, radius in CAPSULES:
        start, axis = np.array(start), np.subtract(end, start)
        for centre in (start, start + axis):
            near, far = roots(np.ones(ray.shape[:2]), -ray @ centre, centre @ centre - radius ** 2)
            first, last = [*first, near], [*last, far]
        along, offset = ray @ axis, start @ axis
        squared = axis @ axis
        across, base = ray - along[..., None] * axis / squared, -start + offset * axis / squared
        for hit, kept in zip(roots((across ** 2).sum(-1), across @ base,
                                   base @ base - radius ** 2), (first, last)):
            place = (hit * along - offset) / squared
            kept.append(np.where((place >= 0) & (place <= 1), hit, np.nan))
    return (np.fmin.reduce(first), np.fmax.reduce(last))


def depths(hits: Hits) -> Hits:
    """D of the front and the back, empty where rays miss: float32."""
    front, back = (depth_of(length) for length in hits)
    return (np.where(np.isnan(front), FRONT_EMPTY, front).astype(np.float32),
            np.where(np.isnan(back), BACK_EMPTY, back).astype(np.float32))


def ellipsoid_normals(half_axes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Outward normals of points in the camera's axes."""
    normal = (points - CENTRE) / half_axes ** 2
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def from_capsules(points: np.ndarray) -> np.ndarray:
    """Distances `(N,)` of points in the camera's axes from the surface of the six capsules."""
    distances = []
    for start, end, radius in CAPSULES:
        axis = np.subtract(end, start)
        along = ((points - start) @ axis / (axis @ axis)).clip(0, 1)
        distances.append(np.linalg.norm(points - start - along[:, None] * axis, axis=1) - radius)
    return np.abs(np.min(distances, axis=0))


def from_ellipsoid(half_axes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distances `(N,)` of points near an ellipsoid from it, to the first order."""
    offset = points - CENTRE
    size = np.linalg.norm(offset / half_axes, axis=1)
    return np.abs(size - 1) * size / np.linalg.norm(offset / half_axes ** 2, axis=1)
