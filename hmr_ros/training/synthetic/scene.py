# SPDX-License-Identifier: Apache-2.0
"""Whole pictures with several people, and clips of people who walk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from hmr_ros.body.model import BodyModel
from hmr_ros.training.synthetic.anatomy import Anatomy, study
from hmr_ros.training.synthetic.appearance import Look, draw_look
from hmr_ros.training.synthetic.backgrounds import draw_background
from hmr_ros.training.synthetic.cameras import Views, sample_views
from hmr_ros.training.synthetic.cutouts import (
    Crowd, Window, draw, draw_betas, dress, pose_crowd, rendered_keypoints)
from hmr_ros.training.synthetic.errors import SyntheticError
from hmr_ros.training.synthetic.lights import draw_light
from hmr_ros.training.synthetic.motions import sample_poses, walk_cycle

_CYCLE_S = 1.1
_IMAGE_HEIGHT = 720.0


@dataclass(frozen=True)
class Scene:
    """
    A picture and its N people; float32 unless said, metres in optical axes, pixels of the picture.

    image (H, W, 3) uint8 RGB; instances (H, W) uint8, 0 nobody, i + 1 person i; camera (4,) fx, fy,
    cx, cy; boxes (N, 4) of what is seen, zeros for someone out of sight; rotmats (N, 24, 3, 3),
    betas (N, 10), transl (N, 3), joints3d (N, 29, 3), markers3d (N, 67, 3), keypoints2d
    (N, 96, 2), visible (N, 96) uint8.
    """

    image: np.ndarray
    instances: np.ndarray
    camera: np.ndarray
    boxes: np.ndarray
    rotmats: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    joints3d: np.ndarray
    markers3d: np.ndarray
    keypoints2d: np.ndarray
    visible: np.ndarray


def _spots(
        rng: np.random.Generator, count: int, far: float, ground: float,
        half_angle: float) -> np.ndarray:
    """Places `(count, 3)` on the ground in view, world axes, apart where there is room."""
    best, most = np.zeros((count, 3)), -1.0
    for _ in range(40):
        azimuth = rng.uniform(-0.75, 0.75, count) * half_angle
        away = np.maximum(1.6, far * np.exp(rng.uniform(-0.3, 0.6, count)))
        spots = np.stack(
            [away * np.sin(azimuth), np.full(count, ground), away * np.cos(azimuth)], axis=-1)
        gaps = np.linalg.norm(spots[:, None] - spots, axis=-1) + 1e3 * np.eye(count)
        if gaps.min() > most:
            best, most = spots, gaps.min()
    return best


def _one_camera(rng: np.random.Generator, count: int) -> tuple[Views, np.ndarray]:
    """Return one camera's view of `count` people and their places `(count, 3)` in world axes."""
    views = sample_views(rng, 1)
    spot = views.rotation[0].T @ views.place[0]
    far = max(2.0, float(np.linalg.norm(spot[[0, 2]])))
    half_angle = float(np.arctan(0.5 * _IMAGE_HEIGHT * 16 / 9 / views.focal[0]))
    spots = _spots(rng, count, far, spot[1], half_angle)
    return Views(
        views.rotation.repeat(count, axis=0), spots @ views.rotation[0].T,
        views.focal.repeat(count), views.centre.repeat(count, axis=0),
        rng.uniform(-np.pi, np.pi, count)), spots


def _ground_shadows(image: np.ndarray, crowd: Crowd, window: Window, strength: float) -> None:
    """Darken the ground under each person, in place."""
    shade = np.ones(image.shape[:2], np.float32)
    around = np.arange(16) / 16 * 2 * np.pi
    for i in range(len(crowd.betas)):
        up = crowd.up[i]
        side = np.cross(up, [0.0, 0.0, 1.0])
        side /= np.linalg.norm(side)
        ahead = np.cross(side, up)
        spread = crowd.joints3d[i, [1, 2, 7, 8, 20, 21]] - crowd.views.place[i]
        reach = 0.16 + 0.7 * np.linalg.norm(spread - (spread @ up)[:, None] * up, axis=1).max()
        disc = crowd.views.place[i] + reach * (
            np.outer(np.cos(around), side) + np.outer(np.sin(around), ahead))
        if disc[:, 2].min() > 0.2:
            pixels = disc[:, :2] / disc[:, 2:] * window.focal + window.centre
            cv2.fillConvexPoly(shade, pixels.astype(np.int32), 1 - strength, cv2.LINE_AA)
    shade = cv2.GaussianBlur(shade, (0, 0), 0.006 * image.shape[1])
    image[:] = (image * shade[..., None]).astype(np.uint8)


def _camera_window(views: Views, size: tuple[int, int]) -> Window:
    """Whole picture of (width, height) seen by the first view's camera."""
    return Window(float(views.focal[0] * size[1] / _IMAGE_HEIGHT), np.float64(size) / 2, size)


def _boxes(instances: np.ndarray, count: int) -> np.ndarray:
    boxes = np.zeros((count, 4), np.float32)
    for i in range(count):
        x, y, w, h = cv2.boundingRect((instances == i + 1).astype(np.uint8))
        boxes[i] = x, y, x + w, y + h
    return boxes


def compose_scene(
        body: BodyModel, anatomy: Anatomy, crowd: Crowd, looks: list[Look], light: np.ndarray,
        backdrop: np.ndarray) -> Scene:
    """Draw a crowd in front of `backdrop` `(H, W, 3)` uint8 with one light."""
    height, width = backdrop.shape[:2]
    window = _camera_window(crowd.views, (width, height))
    image = backdrop.copy()
    _ground_shadows(image, crowd, window, float(light[5, 0]) * 0.55)
    picture = np.zeros((height, width, 4), np.uint8)
    closeness = np.zeros((height, width), np.float32)
    instances = np.zeros((height, width), np.uint8)
    for i, look in enumerate(looks):
        before = closeness.copy()
        draw(dress(body, anatomy, crowd, i, look), look, anatomy, light, window, picture,
             closeness)
        instances[closeness > before] = i + 1
    image[instances > 0] = picture[instances > 0][:, :3]
    markers = crowd.vertices[:, body.marker_vertices]
    points = np.concatenate([crowd.joints3d, markers], axis=1)
    pixels = points[..., :2] / points[..., 2:] * window.focal + window.centre
    visible = np.stack([rendered_keypoints(p, window, closeness) for p in points])
    camera = np.float32([window.focal, window.focal, *window.centre])
    return Scene(image, instances, camera, _boxes(instances, len(looks)), crowd.rotmats,
                 crowd.betas, crowd.transl, crowd.joints3d, markers,
                 pixels.astype(np.float32), visible)


def _backdrop(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    square = draw_background(rng, max(size))
    return np.ascontiguousarray(square[:size[1], :size[0]])


def render_scene(
        body: BodyModel, people: int, seed: int, size: tuple[int, int] = (1280, 720)) -> Scene:
    """Render one picture of (width, height) `size` with `people` people; the seed decides all."""
    if not 1 <= people <= 250:
        raise SyntheticError(f'people={people}; expected 1 to 250')
    rng = np.random.default_rng([seed, 21])
    views, _ = _one_camera(rng, people)
    crowd = pose_crowd(body, sample_poses(rng, people), draw_betas(rng, people), views)
    looks = [draw_look(rng) for _ in range(people)]
    return compose_scene(body, study(body), crowd, looks, draw_light(rng, crowd.up[0]),
                         _backdrop(rng, size))


def walk_clip(
        body: BodyModel, people: int, frames: int, seed: int, size: tuple[int, int] = (640, 360),
        rate_hz: float = 25.0) -> Iterator[Scene]:
    """Film people who walk straight on in front of a camera that stands still."""
    rng = np.random.default_rng([seed, 22])
    views, spots = _one_camera(rng, people)
    poses = np.stack([walk_cycle(frames, round(_CYCLE_S * rate_hz), rng) for _ in range(people)])
    ways = np.stack([np.sin(views.heading), np.zeros(people), np.cos(views.heading)], axis=-1)
    speeds = rng.uniform(0.9, 1.5, people)[:, None]
    betas, looks = draw_betas(rng, people), [draw_look(rng) for _ in range(people)]
    light, backdrop = draw_light(rng, views.rotation[0, :, 1]), _backdrop(rng, size)
    anatomy = study(body)
    for frame in range(frames):
        now = spots + ways * speeds * (frame - frames / 2) / rate_hz
        view = replace(views, place=now @ views.rotation[0].T)
        crowd = pose_crowd(body, poses[:, frame], betas, view)
        yield compose_scene(body, anatomy, crowd, looks, light, backdrop)
