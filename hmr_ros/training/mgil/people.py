# SPDX-License-Identifier: Apache-2.0
"""
COCO's 17 keypoints of synthetic people.

Limbs are joints of the body. Nose, eyes and ears are vertices of the head, found by geometry; the
eyes lie where the renderer paints them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hmr_ros.body.model import BodyModel
from hmr_ros.perception.simcc import COCO_NAMES
from hmr_ros.training.synthetic.anatomy import study
from hmr_ros.training.synthetic.generator import seen_in
from hmr_ros.training.synthetic.labels import project

#: COCO's words: not labelled, labelled but hidden, seen.
UNLABELLED, HIDDEN, SEEN = 0, 1, 2
FACE = COCO_NAMES[:5]
#: joints of the body that are COCO's limbs, in COCO's order behind the face.
LIMBS = np.array([16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8])
_HEAD, _OF_HEAD = 15, 0.6
#: where the face's keypoints look, in the body's own axes, and how far they may look away: ears
#: stick out, and a nose is seen from the side.
_LOOK = np.float64([(0, 0, 1), (.29, 0, .96), (-.29, 0, .96), (1, 0, 0), (-1, 0, 0)])
_AWAY = 0.15
_MIRROR = np.array([-1, 1, 1])


def face_vertices(body: BodyModel) -> np.ndarray:
    """Vertices `(5,)` of nose, left and right eye, left and right ear, the person's own sides."""
    rest = body.v_template - body.joint_template[0]
    head = np.flatnonzero(body.weights[:, _HEAD] > _OF_HEAD)
    anatomy = study(body)
    height, half_distance = anatomy.face[3], anatomy.face[5]
    front = head[rest[head, 2] > anatomy.face[6]]
    middle = front[np.abs(rest[front, 0]) < 0.5 * half_distance]
    # Hair and brow of a bald template never reach as far as the tip of the nose.
    nose = middle[rest[middle, 2].argmax()]
    eye = front[np.linalg.norm(rest[front, :2] - (half_distance, height), axis=1).argmin()]
    ear = head[rest[head, 0].argmax()]
    return np.array([nose, eye, _mirrored(rest, head, eye), ear, _mirrored(rest, head, ear)])


def _mirrored(rest: np.ndarray, head: np.ndarray, vertex: int) -> int:
    """Vertex of the head nearest to the mirror image of another."""
    return head[np.linalg.norm(rest[head] - _MIRROR * rest[vertex], axis=1).argmin()]


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
        points, turns = skinned(
            self._body, self.vertices, sample['rotmats'][None], sample['betas'][None])
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


def skinned(
        body: BodyModel, vertices: np.ndarray, rotmats: np.ndarray,
        betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Few vertices of posed bodies, as `BodyModel.skin` gives all of them, before any translation.

    rotmats (N, 24, 3, 3), betas (N, 10). Returns points (N, K, 3) and the linear maps
    (N, K, 3, 3) that turn their normals, float32.
    """
    joints, world = body.pose_joints(rotmats, betas)
    rest = body.v_template[vertices] + np.einsum('kcs,ns->nkc', body.shapedirs[vertices], betas)
    if body.posedirs is not None:
        feature = (rotmats[:, 1:] - np.eye(3, dtype=np.float32)).reshape(len(rotmats), -1)
        columns = body.posedirs.reshape(len(body.posedirs), -1, 3)[:, vertices]
        rest = rest + np.einsum('nf,fkc->nkc', feature, columns)
    offset = joints - (world @ body.rest_joints(betas)[..., None])[..., 0]
    turns = np.einsum('kj,njab->nkab', body.weights[vertices], world)
    points = (turns @ rest[..., None])[..., 0] + body.weights[vertices] @ offset
    return points, turns
