# SPDX-License-Identifier: Apache-2.0
"""A clip of bodies that walk across a yard, drawn with the overlay's own renderer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hmr_ros.body import BodyModel, load_body
from hmr_ros.demo.errors import DemoError
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.overlay import OverlayRenderer, OverlayStyle
from hmr_ros.perception.rotations import axis_angle_to_matrix

WIDTH, HEIGHT, RATE_HZ, SECONDS = 640, 480, 10.0, 20.0
_CAMERA = Camera.from_fov(WIDTH, HEIGHT, 45.0)
_CAMERA_HEIGHT_M = 1.5


@dataclass(frozen=True)
class Walker:
    """A person who walks along x at `depth_m`, from `start_m` with `speed_m_s`."""

    depth_m: float
    start_m: float
    speed_m_s: float
    step_hz: float
    betas: tuple[float, ...]


_WALKERS = (
    Walker(6.5, -3.0, 0.9, 0.9, (1.0, 0.5) + (0.0,) * 8),
    Walker(5.0, 2.2, -0.7, 0.8, (-1.0, -0.5) + (0.0,) * 8))


def walk_pose(phase: float, heading: float) -> np.ndarray:
    """Axis-angle rotations `(24, 3)` of a walking body; `phase` and `heading` in radians."""
    pose = np.zeros((24, 3), np.float32)
    swing = np.sin(phase)
    pose[1, 0], pose[2, 0] = -0.33 * swing, 0.33 * swing
    pose[4, 0] = 0.15 + 0.4 * max(np.sin(phase + 1.9), 0)
    pose[5, 0] = 0.15 + 0.4 * max(np.sin(phase + 1.9 + np.pi), 0)
    # Arms hang down and swing against the legs.
    pose[16], pose[17] = (0.0, 0.3 * swing, -1.2), (0.0, 0.3 * swing, 1.2)
    pose[18, 1], pose[19, 1] = -0.3, 0.3
    upright = axis_angle_to_matrix(np.float32([np.pi, 0, 0]))
    turned = upright @ axis_angle_to_matrix(np.float32([0, heading, 0]))
    pose[0] = cv2.Rodrigues(turned.astype(np.float64))[0][:, 0]
    return pose


def _place(body: BodyModel, time_s: float) -> np.ndarray:
    poses, betas, transl = [], [], []
    for walker in _WALKERS:
        heading = np.copysign(np.pi / 2, walker.speed_m_s)
        poses.append(walk_pose(2 * np.pi * walker.step_hz * time_s, heading))
        betas.append(walker.betas)
        span = 2 * abs(walker.start_m)
        way = (walker.start_m + walker.speed_m_s * time_s + span / 2) % span - span / 2
        transl.append((way, 0.0, walker.depth_m))
    vertices, _ = body.skin(
        axis_angle_to_matrix(np.float32(poses)), np.float32(betas), np.float32(transl))
    # Feet on the ground: y points down.
    vertices[..., 1] += _CAMERA_HEIGHT_M - vertices[..., 1].max(axis=1, keepdims=True)
    return vertices


def _yard() -> np.ndarray:
    rng = np.random.default_rng(5)
    image = np.full((HEIGHT, WIDTH, 3), (205, 195, 185), np.uint8)
    horizon = int(HEIGHT * 0.45)
    image[horizon:] = (150, 158, 160)
    grain = cv2.GaussianBlur(rng.normal(0, 25, image.shape).astype(np.float32), (0, 0), 2.0)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def write_walk(path: Path) -> None:
    """Write the clip to `path` (.avi). Raises DemoError when OpenCV cannot write videos."""
    body = load_body()
    renderer = OverlayRenderer(
        body.faces, OverlayStyle(opacity=1.0, skeleton=0, label=0, box=0))
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*'MJPG'), RATE_HZ, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise DemoError(f'{path} cannot be written; is its folder writable and OpenCV built with '
                        'video support?')
    yard, nowhere = _yard(), np.full((len(_WALKERS), 24, 2), np.nan, np.float32)
    for i in range(int(SECONDS * RATE_HZ)):
        vertices = _place(body, i / RATE_HZ)
        drawn = renderer.draw(
            yard, _CAMERA, vertices, ['p5', 'p12'], nowhere, np.full((2, 4), np.nan))
        # Darker than any ground, as clothes are, so that the detector finds them.
        writer.write(np.where(np.any(drawn != yard, axis=2, keepdims=True), drawn // 3, drawn))
    writer.release()
