# SPDX-License-Identifier: Apache-2.0
"""Clothed people as shape and as the digitizer's camera sees them (sheet, sections 1 and 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
import functools
import math

import cv2
import numpy as np

from hmr_ros.body.coco import LIMBS
from hmr_ros.body.whole_body import load_whole_body, WholeBodyModel
from hmr_ros.body.whole_body_joints import BODY_JOINTS, LEFT_HAND, RIGHT_HAND
from hmr_ros.perception.digitizer.depth import (
    BACK_EMPTY, depth_of, focal_length, FRONT_EMPTY, rays)
from hmr_ros.training.bidrn.people import study_whole
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.synthetic.anatomy import Anatomy
from hmr_ros.training.synthetic.appearance import draw_look, Look
from hmr_ros.training.synthetic.cameras import look_down, Views
from hmr_ros.training.synthetic.cutouts import (
    Crowd, draw, draw_betas, dress, Dressed, stand, Window)
from hmr_ros.training.synthetic.expressions import sample_expressions, sample_jaws
from hmr_ros.training.synthetic.folds import folded, smooth_cloths
from hmr_ros.training.synthetic.hands import sample_both_hands
from hmr_ros.training.synthetic.lights import draw_light
from hmr_ros.training.synthetic.motions import sample_poses
from hmr_ros.training.synthetic.rasterizer import rasterize
from hmr_ros.training.synthetic.subdivision import finer, smoothed

_MOTIONS = ('stand', 'walk', 'turn')
_YAW_DEG, _PITCH_DEG, _ROLL_DEG = 30.0, 6.0, 2.0
#: the farthest coordinate is one over this many units from the middle (sheet, section 1).
_EXTENT = 2.8
#: how much larger or smaller, and how far aside in units, people stand.
_SCALE, _ASIDE = 0.07, 0.02
#: colours are rendered so many times finer than depth, for edges that are not jagged.
FINER = 2
#: of the 144 joints of a whole body: nose, eyes, ears, toes and heels, then first knuckles.
_FACE = (55, 57, 56, 59, 58)
_FEET = (60, 61, 62, 63, 64, 65)
_KNUCKLES = tuple(hand + 3 * finger for hand in (LEFT_HAND, RIGHT_HAND) for finger in (0, 1, 3, 2))
#: rows of those joints in the order of the digitizer's.
_ROWS = np.array([*_FACE, *LIMBS, *_FEET, *_KNUCKLES])


@dataclass(frozen=True)
class Scan:
    """
    A clothed person and what the digitizer's camera sees.

    image     (S, S, 4) uint8, red, green, blue and how much of the pixel the person covers
    front     (S, S) float32, D of the first surface; FRONT_EMPTY where nobody is
    back      (S, S) float32, D of the last surface; BACK_EMPTY there
    joints    (31, 2) float32 pixels, in the order of the digitizer's JOINTS
    vertices  (V, 3) float32 in the camera's axes, right, down, forward; units
    faces     (F, 3) int32, seen from outside counter-clockwise; with what clothes hide
    unit_m    metres of a unit, the distance of the person
    """

    image: np.ndarray
    front: np.ndarray
    back: np.ndarray
    joints: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    unit_m: float


def draw_scans(count: int, resolution: int, seed: int) -> Iterator[Scan]:
    """
    Draw people one after the other; the same seed gives the same people at any resolution.

    Raises TrainingError for a count below 1.
    """
    if count < 1:
        raise TrainingError(f'{count} scans; expected 1 or more')
    body, anatomy = _subject()
    for number in range(count):
        yield draw_scan(body, anatomy, np.random.default_rng([seed, 61, number]), resolution)


@functools.lru_cache(maxsize=1)
def _subject() -> tuple[WholeBodyModel, Anatomy]:
    body = finer(load_whole_body())
    return body, study_whole(body)


def draw_scan(
        body: WholeBodyModel, anatomy: Anatomy, rng: np.random.Generator,
        resolution: int) -> Scan:
    """Draw somebody who stands, walks or gestures; clothe, light and scan them."""
    crowd, joints = _standing(body, rng)
    look, light = draw_look(rng), draw_light(rng, crowd.up[0])
    person = dress(body, anatomy, crowd, 0, look, smoothed)
    person = folded(person, look, anatomy, body.faces)
    stand_at = place(person.vertices, person.faces, rng)
    person = replace(person, vertices=stand_at.metres(person.vertices))
    image = _picture(person, smooth_cloths(look), anatomy, light, resolution)
    return scan_of(image, person.vertices, person.faces, stand_at.metres(joints), stand_at.unit_m)


def scan_of(
        image: np.ndarray, vertices: np.ndarray, faces: np.ndarray, joints: np.ndarray,
        unit_m: float) -> Scan:
    """Scan a mesh with its `image`; vertices (V, 3) and joints (31, 3) in metres."""
    side = image.shape[0]
    front, back = _depths(vertices, faces, side, unit_m)
    image[front > back] = 0
    return Scan(image, front, back, pixels_of(joints, side), vertices / np.float32(unit_m), faces,
                unit_m)


def _standing(body: WholeBodyModel, rng: np.random.Generator) -> tuple[Crowd, np.ndarray]:
    """One person before a level camera, in its axes and metres, and the 31 joints `(31, 3)`."""
    betas, expression = draw_betas(rng, 1), sample_expressions(rng, 1)
    pose = np.concatenate([
        sample_poses(rng, 1, _MOTIONS)[:, :BODY_JOINTS], sample_both_hands(body, rng, 1),
        sample_jaws(rng, 1)[:, None]], axis=1)
    tilt = np.radians(np.clip(rng.normal(0, (_PITCH_DEG, _ROLL_DEG), (1, 2)), -15, 15))
    # A heading of nothing looks the way the camera looks.
    heading = np.pi + np.radians(rng.uniform(-_YAW_DEG, _YAW_DEG, 1))
    views = Views(look_down(tilt[:, 0], tilt[:, 1]), np.float64([[0, 0, 4]]), np.ones(1),
                  np.zeros((1, 2)), heading)
    crowd = stand(body, body.rotations(pose), np.concatenate([betas, expression], 1), views)
    joints = body.joints(crowd.vertices, crowd.joints3d, crowd.rotmats)
    return crowd, joints[0, _ROWS]


@dataclass(frozen=True)
class Place:
    """Where a person is put: `middle` (3,) goes to `target` (3,) units, of `unit_m` metres."""

    middle: np.ndarray
    target: np.ndarray
    unit_m: float

    def metres(self, points: np.ndarray) -> np.ndarray:
        """Move points (N, 3), metres."""
        return (points - self.middle + self.target * self.unit_m).astype(np.float32)


def place(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> Place:
    """Put the centroid of the surface at one unit, not always quite in the middle."""
    corners = vertices[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(
        corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1, keepdims=True)
    middle = (corners.mean(1) * area).sum(0) / area.sum()
    scale = math.exp(rng.uniform(-_SCALE, _SCALE))
    unit_m = _EXTENT * float(np.abs(vertices - middle).max()) / scale
    return Place(middle, np.array([*rng.uniform(-_ASIDE, _ASIDE, 2), 1.0]), unit_m)


def pixels_of(points: np.ndarray, side: int) -> np.ndarray:
    """Project points (N, 3) of the camera into a square image: float32 `(N, 2)`."""
    pixels = points[:, :2] / points[:, 2:] * focal_length(side) + (side - 1) / 2
    return np.ascontiguousarray(pixels, np.float32)


def _picture(
        person: Dressed, look: Look, anatomy: Anatomy, light: np.ndarray,
        side: int) -> np.ndarray:
    """Colours `(side, side, 4)` uint8, with the share that the person covers last."""
    fine = side * FINER
    window = Window(focal_length(fine), np.full(2, (fine - 1) / 2), (fine, fine))
    picture, closeness = np.zeros((fine, fine, 4), np.uint8), np.zeros((fine, fine), np.float32)
    draw(person, look, anatomy, light, window, picture, closeness)
    return coarser(picture[..., :3], picture[..., 3] > 0)


def coarser(colours: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Take a fine picture (2S, 2S, 3) and where it shows somebody to `(S, S, 4)` uint8."""
    there = covered[..., None].astype(np.float32)
    mean = cv2.resize(np.concatenate([colours * there, there], 2), None, fx=1 / FINER, fy=1 / FINER,
                      interpolation=cv2.INTER_AREA)
    mean[..., :3] /= np.maximum(mean[..., 3:], 1e-6)
    mean[..., 3] *= 255
    return np.round(mean).astype(np.uint8)


def _depths(
        vertices: np.ndarray, faces: np.ndarray, side: int,
        unit_m: float) -> tuple[np.ndarray, np.ndarray]:
    """D of the first and of the last surface, `(side, side)` float32 each."""
    points, near = pixels_of(vertices, side), 1 / vertices[:, 2]
    beyond = np.float32(1.01 * near.max())
    first, last = (_closest(points, closeness, seen, side) for closeness, seen in (
        (near, faces), (beyond - near, faces[:, ::-1])))
    there = (first > 0) & (last > 0)
    far = 1 / (unit_m * rays(side)[..., 2].astype(np.float64))
    front, back = (depth_of(far / np.where(there, near, 1)) for near in (first, beyond - last))
    there &= front <= back
    return (np.where(there, front, FRONT_EMPTY).astype(np.float32),
            np.where(there, back, BACK_EMPTY).astype(np.float32))


def _closest(
        points: np.ndarray, closeness: np.ndarray, faces: np.ndarray, side: int) -> np.ndarray:
    buffer = np.zeros((side, side), np.float32)
    rasterize(points, np.ascontiguousarray(closeness, np.float32), np.ascontiguousarray(faces),
              np.empty(buffer.shape, np.int32), buffer)
    return buffer
