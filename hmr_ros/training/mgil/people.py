# SPDX-License-Identifier: Apache-2.0
"""COCO's 17 keypoints of synthetic people; the eyes lie where the renderer paints them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hmr_ros.body.coco import face_vertices, LIMBS
from hmr_ros.body.model import BodyModel
from hmr_ros.training.synthetic.generator import seen_in
from hmr_ros.training.synthetic.labels import project

#: COCO's words: not labelled, labelled but hidden, seen.
UNLABELLED, HIDDEN, SEEN = 0, 1, 2
#: where the face's keypoints look, in the body's own axes, and how far they may look away: ears
#: stick out, and a nose is seen from the side.
_LOOK = np.float64([(0, 0, 1), (.29, 0, .96), (-.29, 0, .96), (1, 0, 0), (-1, 0, 0)])
_AWAY = 0.15


class CocoLabels:
    """Reads COCO's keypoints from samples of SyntheticPeople with the body `body`."""

    def __init__(self, body: BodyModel) -> None:
        self._body = body
        self.vertices = face_vertices(body)

    def read(self, sample: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """
        Keypoints `(17, 2)` float32 in crop pixels and visibility `(17,)` uint8 of one sample.

        Visibility is 0 outside the picture and for a nose, eye or ear on the far side of the head,
        as people label; 1 for what lies behind other limbs, people or things; 2 for what is seen.
        """
        face, towards = self._face(sample)
        pixels = np.concatenate([
            self._pixels(sample, face), sample['keypoints2d'][LIMBS]]).astype(np.float32)
        seen = np.concatenate([
            seen_in(sample['mask'], pixels[:5]), sample['visible'][LIMBS]]) > 0
        low, high = sample['shown'].reshape(2, 2)
        labelled = np.all((pixels >= low) & (pixels < high), axis=1)
        labelled[:5] &= towards
        return pixels, np.where(labelled, np.where(seen, SEEN, HIDDEN), UNLABELLED).astype(np.uint8)

    def _face(self, sample: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Points of the face `(5, 3)` in the camera, and whether they look at it."""
        points, turns = self._body.skin_few(
            self.vertices, sample['rotmats'][None], sample['betas'][None])
        points = points[0] + sample['transl']
        look = np.einsum('kij,kj->ki', turns[0], _LOOK)
        ahead = points / np.linalg.norm(points, axis=1, keepdims=True)
        return points, np.sum(look * ahead, axis=1) < _AWAY

    @staticmethod
    def _pixels(sample: Mapping[str, np.ndarray], points: np.ndarray) -> np.ndarray:
        focal, centre = sample['camera'][:1], sample['camera'][None, 1:]
        size = len(sample['image'])
        picture = project(points[None], focal, centre)[0]
        return (picture - sample['crop_centre']) * (size / sample['crop_side']) + size / 2
