# SPDX-License-Identifier: Apache-2.0
"""Training samples of real people from the datasets a user holds (sheet 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import cv2
import numpy as np

from hmr_ros.body.model import BodyModel
from hmr_ros.evaluation.datasets import LabelledPerson, read_picture
from hmr_ros.perception.crops import MARGIN
from hmr_ros.perception.inverse_kinematics import twist_angles
from hmr_ros.training.keypoint_guided.pretraining import coco_labels, KEYPOINTS, SWAP
from hmr_ros.training.synthetic.labels import (
    flip_labels, keypoint_targets, project, SWAP_29, turn_labels)

#: probabilities of a turn and of a mirror, and the spreads and limits of zoom and turn.
TURN, FLIP = 0.6, 0.5
ZOOM_SPREAD, ZOOM_LIMITS = 0.3, (0.7, 1.3)
TURN_SPREAD_DEG, TURN_LIMIT_DEG = 30.0, 60.0
#: range of the factor of each colour; largest share of the crop that noise covers.
COLOUR, NOISE_AREA, NOISE_RATIO = (0.8, 1.2), 0.3, (0.5, 2.0)


@dataclass(frozen=True)
class Change:
    """How a sample differs from its picture: pixels are multiplied by `linear` (2, 2)."""

    linear: np.ndarray
    turn: np.ndarray
    flipped: bool
    zoom: float


def draw_change(rng: np.random.Generator) -> Change:
    """Draw the augmentation of the authors' program."""
    flipped = bool(rng.random() < FLIP)
    angle = np.clip(rng.normal(0, TURN_SPREAD_DEG), -TURN_LIMIT_DEG, TURN_LIMIT_DEG)
    angle = np.radians(angle) * (rng.random() < TURN)
    turn = np.float64([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    zoom = float(np.clip(rng.normal(1, ZOOM_SPREAD), *ZOOM_LIMITS))
    return Change(turn @ np.diag([-1.0 if flipped else 1.0, 1.0]), turn, flipped, zoom)


class LabelledPeople:
    """
    Samples with the arrays of SyntheticPeople that training reads.

    people  with pictures as files
    body    whose markers, betas and twists are learned where a person has SMPL parameters; None
            for a network of the open body, which learns the joints of datasets only

    `pose_known`, `camera_known` () say whether betas, twists and rotations, and the camera count.
    """

    def __init__(
            self, people: Sequence[LabelledPerson], size: int, body: BodyModel | None) -> None:
        self.people, self.size, self.body = people, size, body

    def __len__(self) -> int:
        return len(self.people)

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Cut person `index` out of its picture, changed at random."""
        person, change = self.people[index], draw_change(rng)
        box = person.box.astype(np.float64)
        side = MARGIN * change.zoom * (box[2:] - box[:2]).max()
        centre = change.linear @ (0.5 * (box[:2] + box[2:]))
        scale = self.size / side
        shift = self.size / 2 - centre * scale
        forward = np.concatenate([change.linear * scale, shift[:, None]], axis=1)
        image = cv2.warpAffine(
            cv2.cvtColor(read_picture(person), cv2.COLOR_BGR2RGB), forward, (self.size, self.size))
        labels = self._labels(person, change, centre, side)
        return {'image': spoil(image, rng), **labels}

    def _labels(
            self, person: LabelledPerson, change: Change, centre: np.ndarray,
            side: float) -> dict[str, np.ndarray]:
        known, markers = self._posed(person)
        order = SWAP_29 if change.flipped else np.arange(29)
        camera = person.camera
        f = 1.0 if camera is None else 0.5 * (camera.fx + camera.fy)
        middle = np.zeros(2) if camera is None else np.float64([camera.cx, camera.cy])
        if change.flipped:
            known = flip_labels(known)
        known = turn_labels(known, change.turn[None].astype(np.float32))
        points = np.concatenate([known['joints3d'], known['markers3d']], axis=1)
        principal = change.linear @ middle
        picture = project(points, np.float32([f]), principal[None].astype(np.float32))
        picture[:, :29] = person.joints2d[order] @ change.linear.T
        pixels = (picture - centre) * (self.size / side) + self.size / 2
        uvd, inside = keypoint_targets(pixels, points[..., 2] - points[:, :1, 2], self.size)
        weight = inside[0] * self._weights(person, order, markers)
        root = max(float(points[0, 0, 2]), 1e-3)
        return {name: np.asarray(value, np.float32) for name, value in {
            'uvd': uvd[0], 'uvd_weight': weight, 'visible': weight[:, 0], 'phi': known['phi'][0],
            'betas': known['betas'][0], 'rotmats': known['rotmats'][0],
            'camera_scale': f / (root * side), 'camera': [f, *principal], 'crop_centre': centre,
            'crop_side': side, 'coco': self._coco(person, change, uvd[0], weight, centre, side),
            'pose_known': float(markers),
            'camera_known': float(camera is not None and person.joints3d_weight[0] > 0)}.items()}

    def _coco(
            self, person: LabelledPerson, change: Change, uvd: np.ndarray, weight: np.ndarray,
            centre: np.ndarray, side: float) -> np.ndarray:
        """COCO's keypoints (17, 3) in the crop: the person's own where there are any."""
        if len(person.native2d) != KEYPOINTS:
            return coco_labels(uvd, weight)
        rows = person.native2d[SWAP if change.flipped else np.arange(KEYPOINTS)]
        places = (rows[:, :2] @ change.linear.T - centre) / side
        known = (rows[:, 2] > 0) & np.all(np.abs(places) <= 0.5, axis=1)
        return np.concatenate([places, known[:, None]], axis=1)

    def _weights(self, person: LabelledPerson, order: np.ndarray, markers: bool) -> np.ndarray:
        """Weights (96, 3) before the crop cuts off; depth needs a labelled pelvis."""
        flat = person.joints2d_weight[order] > 0
        deep = flat & (person.joints3d_weight[order] > 0) & (person.joints3d_weight[0] > 0)
        joints = np.stack([flat, flat, deep], axis=1)
        return np.concatenate([joints, np.full((67, 3), markers)]).astype(np.float32)

    def _posed(self, person: LabelledPerson) -> tuple[dict[str, np.ndarray], bool]:
        """Labels (1, ...) in the camera's axes, and whether the body could be posed for them."""
        labels = {
            'joints3d': person.joints3d[None].copy(), 'markers3d': np.ones((1, 67, 3), np.float32),
            'rotmats': np.tile(np.eye(3, dtype=np.float32), (1, 24, 1, 1)),
            'betas': np.zeros((1, 10), np.float32), 'rendered': np.ones((1, 96), np.float32),
            'phi': np.tile(np.float32([1, 0]), (1, 23, 1))}
        depth = labels['joints3d'][..., 2]
        depth[depth <= 0] = 1.0
        if (self.body is None or person.rotmats is None or person.betas is None
                or person.camera is None):
            return labels, False
        rotmats, betas = person.rotmats[None], person.betas[None]
        rest = np.concatenate([self.body.rest_joints(betas), self.body.rest_leaves(betas)], axis=1)
        angles = twist_angles(rotmats, rest)
        vertices, joints = self.body.skin(rotmats, betas, np.zeros((1, 3), np.float32))
        markers = vertices[:, self.body.marker_vertices] - joints[:, :1]
        labels.update(
            rotmats=rotmats, betas=betas, markers3d=markers + labels['joints3d'][:, :1],
            phi=np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32))
        return labels, True


def spoil(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scale the colours of a crop `(S, S, 3)` uint8 and put noise over one rectangle."""
    size = image.shape[0]
    factors = rng.uniform(*COLOUR, 3)
    image = np.clip(image * factors, 0, 255).astype(np.uint8)
    area, ratio = rng.uniform(0, NOISE_AREA) * size ** 2, rng.uniform(*NOISE_RATIO)
    height, width = (min(size, int(np.sqrt(area * r))) for r in (ratio, 1 / ratio))
    x, y = rng.integers(0, size - width + 1), rng.integers(0, size - height + 1)
    image[y:y + height, x:x + width] = rng.integers(
        0, 256, (height, width, 3), dtype=np.uint8)
    return image
