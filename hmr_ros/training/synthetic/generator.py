# SPDX-License-Identifier: Apache-2.0
"""Training samples of an SMPL-format body: crops and all that the image networks learn from."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hmr_ros.perception.crops import MARGIN
from hmr_ros.training.synthetic.cutouts import CutoutStore
from hmr_ros.training.synthetic.labels import (
    flip_labels, keypoint_targets, project, turn_labels)
from hmr_ros.training.synthetic.painter import Painter, Placement, Recipe


class SyntheticPeople(Painter):
    """
    Endless labelled crops from a store of cut-out people.

    `sample` and `batch` return these arrays (batch: with N in front), float32 unless said:
    image          (S, S, 3) uint8 RGB crop;  mask (S, S) uint8, 1 where the person is seen
    uvd, uvd_weight (96, 3)  targets of keypoint_guided and weights, 0 outside the crop
    keypoints2d    (96, 2)   crop pixels;  visible (96,) 1 where seen in the picture
    joints3d (29, 3), markers3d (67, 3)    metres, optical axes
    rotmats (24, 3, 3), betas (10,), phi (23, 2), transl (3,) the body in the optical axes
    camera_scale   ()        s = f / (Z b)
    box            (4,)      detector box in pixels of the picture;  crop_centre (2,), crop_side ()
    camera         (3,)      f, cx, cy of the picture: pixel = crop_centre + (u, v) crop_side
    shown          (4,)      x0, y0, x1, y1 of the picture in the crop, crop pixels; black beyond
    index          ()        int64, row of the store
    """

    #: hips, spine, neck and shoulders.
    TRUNK = [0, 1, 2, 3, 6, 9, 12, 16, 17]

    def __init__(
            self, store: CutoutStore, size: int = 256, seed: int = 0, recipe: Recipe = Recipe(),
            background_folder: str | Path | None = None, backgrounds: int = 300,
            margin: float = MARGIN) -> None:
        super().__init__(
            store, (size, size), seed, recipe, background_folder, backgrounds, margin)
        self.size = size

    def _labels(self, index: int, place: Placement, mask: np.ndarray) -> dict[str, np.ndarray]:
        store, row = self.store, slice(index, index + 1)
        names = ('rotmats', 'betas', 'transl', 'joints3d', 'markers3d', 'rendered', 'phi')
        labels = {name: getattr(store, name)[row] for name in names}
        pelvis_to_root = labels['joints3d'][:, 0] - labels['transl']
        if place.flipped:
            labels, pelvis_to_root = flip_labels(labels), pelvis_to_root * np.float32([-1, 1, 1])
        labels = turn_labels(labels, place.turn[None].astype(np.float32))
        linear = place.turn @ np.diag([-1.0 if place.flipped else 1.0, 1.0])
        principal = linear @ store.centre[index]
        focal = store.focal[row]
        points = np.concatenate([labels['joints3d'], labels['markers3d']], axis=1)
        picture = project(points, focal, principal[None].astype(np.float32))
        pixels = (picture - place.centre) * (self.size / place.side) + self.size / 2
        depth = points[..., 2] - points[:, :1, 2]
        uvd, weight = keypoint_targets(pixels, depth, self.size)
        out = {
            **labels, 'uvd': uvd, 'uvd_weight': weight, 'keypoints2d': pixels,
            'transl': labels['joints3d'][:, 0] - pelvis_to_root,
            'visible': seen_in(mask, pixels[0])[None] * labels['rendered'],
            'camera_scale': focal / (points[:, 0, 2] * place.side),
            'box': place.box[None], 'crop_centre': place.centre[None],
            'crop_side': np.float32([place.side]),
            'camera': np.concatenate([focal, principal])[None], 'shown': place.visible[None]}
        del out['rendered']
        return {'mask': mask, 'index': np.int64(index),
                **{name: value[0].astype(np.float32) for name, value in out.items()}}


def seen_in(mask: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return 1 for keypoints `(K, 2)` within a pixel of the person's visible `mask`, else 0."""
    size = mask.shape[0]
    near = np.round(pixels).astype(int)
    inside = np.all((near >= 0) & (near < size), axis=1)
    x, y = np.clip(near, 0, size - 1).T
    return (inside & (cv2.dilate(mask, np.ones((3, 3), np.uint8))[y, x] > 0)).astype(np.float32)
