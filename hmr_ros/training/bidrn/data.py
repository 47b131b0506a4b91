# SPDX-License-Identifier: Apache-2.0
"""Synthetic people with hands and faces as an endless torch dataset."""

from __future__ import annotations

from collections.abc import Iterator
import itertools
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation
import torch
from torch.utils.data import DataLoader, IterableDataset

from hmr_ros.body.whole_body_joints import BODY_JOINTS, HAND_JOINTS, MIRROR, SUPERVISED_MIRROR
from hmr_ros.training.bidrn.people import WholePeople
from hmr_ros.training.synthetic.expressions import MIRROR as EXPRESSION_MIRROR
from hmr_ros.training.synthetic.labels import project
from hmr_ros.training.synthetic.painter import Painter, Placement, Recipe
from hmr_ros.training.turns import turn_of_worker

#: how much higher, or wider in the crop's shape, than the person's box a crop is (sheet, 1).
MARGIN = 1.25
#: half of the pictures cut the person, so that hands and faces are large in many.
WHOLE_RECIPE = Recipe(truncate=0.45)
#: left-right partner of each of the 53 rotations, and of left hand, right hand and face.
POSE_MIRROR = np.array([*MIRROR[:BODY_JOINTS], *range(BODY_JOINTS + HAND_JOINTS, 52),
                        *range(BODY_JOINTS, BODY_JOINTS + HAND_JOINTS), 52])
PART_MIRROR = np.array([1, 0, 2])
#: a part counts when so much of its box is in the picture.
_IN_PICTURE = 0.5


class WholePeopleCrops(Painter):
    """
    Endless labelled crops (H, W) from a store of people with hands and faces.

    `sample` and `batch` return these arrays (batch: with N in front), float32 unless said:
    image      (H, W, 3)    uint8 RGB
    pose       (53, 3)      rotation vectors: 22 of the body, root first and in optical axes, 15 of
                            the left and 15 of the right hand relative to the mean hands, jaw
    betas, expression (10,)
    joints3d   (137, 3)     metres, optical axes
    joints2d   (137, 2)     pixels of the crop;  inside (137,) 1 where the joint lies in the crop
    boxes      (3, 4)       x0, y0, x1, y1 of left hand, right hand and face, tight, crop pixels
    box_known  (3,)         1 where at least half of the box lies in the picture
    transl     (3,)         vertices = skinned vertices + transl
    """

    #: pelvis, hips, neck and shoulders.
    TRUNK = [0, 1, 2, 7, 8, 9]

    def __init__(
            self, store: WholePeople, shape: tuple[int, int], seed: int = 0,
            recipe: Recipe = WHOLE_RECIPE, background_folder: str | Path | None = None,
            backgrounds: int = 300) -> None:
        super().__init__(store, shape, seed, recipe, background_folder, backgrounds, MARGIN)

    def _labels(self, index: int, place: Placement, mask: np.ndarray) -> dict[str, np.ndarray]:
        store = self.store
        labels = {name: getattr(store, name)[index] for name in (
            'pose', 'betas', 'expression', 'joints3d', 'transl')}
        labels['hulls'] = store.parts[index] @ place.forward[:, :2].T + place.forward[:, 2]
        if place.flipped:
            labels = mirrored(labels)
        labels = turned(labels, place.turn)
        linear = place.turn @ np.diag([-1.0 if place.flipped else 1.0, 1.0])
        picture = project(labels['joints3d'][None], store.focal[index:index + 1],
                          (linear @ store.centre[index])[None])[0]
        height, width = self.shape
        extent = np.float64([width, height])
        pixels = (picture - place.centre) * (height / place.side) + extent / 2
        hulls = labels.pop('hulls')
        boxes = np.concatenate([hulls.min(axis=1), hulls.max(axis=1)], axis=1)
        out = {**labels, 'joints2d': pixels, 'boxes': boxes,
               'inside': np.all((pixels >= 0) & (pixels < extent), axis=1),
               'box_known': share_within(boxes, place.visible) >= _IN_PICTURE}
        return {name: value.astype(np.float32) for name, value in out.items()}


def mirrored(labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """
    Labels of the person in a mirror that swaps left and right, x -> -x in optical axes.

    Takes and returns pose (53, 3), betas, expression (10,), joints3d (137, 3), transl (3,) and
    hulls (3, K, 2), whose places the crop's own map has mirrored already.
    """
    flip = np.float32([-1, 1, 1])
    return {
        **labels, 'pose': labels['pose'][POSE_MIRROR] * np.float32([1, -1, -1]),
        'expression': labels['expression'] * EXPRESSION_MIRROR,
        'joints3d': labels['joints3d'][SUPERVISED_MIRROR] * flip,
        'transl': labels['transl'] * flip, 'hulls': labels['hulls'][PART_MIRROR]}


def turned(labels: dict[str, np.ndarray], turn: np.ndarray) -> dict[str, np.ndarray]:
    """Labels as `mirrored` takes them after the picture turned by `turn` (2, 2)."""
    full = np.eye(3)
    full[:2, :2] = turn
    pose = labels['pose'].copy()
    root = Rotation.from_matrix(full) * Rotation.from_rotvec(pose[0])
    pose[0] = root.as_rotvec()
    joints = labels['joints3d'] @ full.T
    # The pelvis turns about the camera, but is not moved by turning the body about itself.
    pelvis = labels['joints3d'][0] - labels['transl']
    return {**labels, 'pose': pose, 'joints3d': joints, 'transl': joints[0] - pelvis}


def share_within(boxes: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Share of the area of each of `boxes` `(K, 4)` that lies within the box `limits` `(4,)`."""
    low, high = np.maximum(boxes[:, :2], limits[:2]), np.minimum(boxes[:, 2:], limits[2:])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.prod(np.maximum(high - low, 0), axis=1) / np.maximum(area, 1e-9)


class Batches(IterableDataset):
    """
    Batches without end: `image` (N, 3, H, W) uint8 RGB and the other arrays of WholePeopleCrops.

    Batch i depends on the seed and on i only, whatever the number of workers and wherever the
    training was resumed. `first` is the i to begin with. Trainer processes, and the workers of
    each, take turns.

    stores  files of `hmr render --layout smplx`;  shape  height and width of the crops
    photos  folder of photographs for backgrounds
    """

    def __init__(
            self, stores: list[str | Path], shape: tuple[int, int], batch: int, seed: int,
            recipe: Recipe = WHOLE_RECIPE, photos: str | Path | None = None,
            first: int = 0) -> None:
        self.store = WholePeople.join([WholePeople.load(path) for path in stores])
        self.shape, self.batch, self.seed, self.recipe = shape, batch, seed, recipe
        self.photos, self.first = photos, first

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Compose every n-th batch, where n is the number of workers of all processes."""
        people = WholePeopleCrops(self.store, self.shape, self.seed, self.recipe, self.photos)
        turn, everybody = turn_of_worker()
        for index in itertools.count(self.first + turn, everybody):
            rng = np.random.default_rng([self.seed, 29, index])
            yield to_tensors(people.batch(rng, self.batch))


def to_tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Tensors of a batch, the channels of the image first."""
    tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
    image = np.ascontiguousarray(batch['image'].transpose(0, 3, 1, 2))
    return {**tensors, 'image': torch.from_numpy(image)}


def training_loader(batches: Batches, workers: int) -> DataLoader:
    """Return the loader of `batches`; `workers` processes make them ahead of time."""
    return DataLoader(batches, batch_size=None, num_workers=workers,
                      prefetch_factor=8 if workers else None)
