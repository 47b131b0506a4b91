# SPDX-License-Identifier: Apache-2.0
"""Where cameras hang: on robots, on tables and on walls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class Views:
    """
    N cameras and where each person stands in them.

    rotation (N, 3, 3)  from the world (x left of a person who faces z, y up) to optical axes
    place    (N, 3)     the person's spot on the ground, metres in optical axes
    focal    (N,)       pixels of an image 720 pixels high
    centre   (N, 2)     principal point, pixels
    heading  (N,)       turn of the person about the vertical, radians; 0 faces along world z
    """

    rotation: np.ndarray
    place: np.ndarray
    focal: np.ndarray
    centre: np.ndarray
    heading: np.ndarray


#: world axes (x, y up, z) seen by a level camera that looks along world z.
_LEVEL = np.float64([[-1, 0, 0], [0, -1, 0], [0, 0, 1]])
IMAGE = np.float64([1280, 720])


def look_down(pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotations `(N, 3, 3)` world to optical of cameras pitched down by `pitch` radians."""
    turn = Rotation.from_euler('ZX', np.stack([roll, pitch], axis=-1))
    return turn.as_matrix() @ _LEVEL


def sample_views(rng: np.random.Generator, count: int, surveillance: float = 0.4) -> Views:
    """
    Draw views: 60 % from robots and hands, `surveillance` from walls and poles.

    Robots: 0.3 to 1.8 m high, 1.2 to 8 m away. Surveillance: 3 to 6 m high, 5 to 20 m away.
    """
    wall = rng.random(count) < surveillance
    height = np.where(wall, rng.uniform(3, 6, count), rng.uniform(0.3, 1.8, count))
    far = np.where(wall, np.exp(rng.uniform(np.log(4), np.log(20), count)),
                   np.exp(rng.uniform(np.log(1.2), np.log(8), count)))
    fov = np.radians(np.where(wall, rng.uniform(28, 62, count), rng.uniform(38, 72, count)))
    focal = 0.5 * IMAGE[1] / np.tan(0.5 * fov)
    aim = np.where(wall, rng.uniform(0.3, 1.5, count), rng.uniform(0.4, 1.3, count))
    pitch = np.arctan2(height - aim, far) + rng.normal(0, 0.12, count) * fov
    rotation = look_down(pitch, np.radians(rng.normal(0, 2.0, count)))
    azimuth = rng.uniform(-0.8, 0.8, count) * np.arctan(0.5 * IMAGE[0] / focal)
    spot = np.stack([far * np.sin(azimuth), -height, far * np.cos(azimuth)], axis=-1)
    place = (rotation @ spot[..., None])[..., 0]
    return Views(rotation, place, focal, np.tile(IMAGE / 2, (count, 1)),
                 rng.uniform(-np.pi, np.pi, count))
