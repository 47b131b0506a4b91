# SPDX-License-Identifier: Apache-2.0
"""Synthetic people that no network was trained on, and the mean pose they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import hashlib
from pathlib import Path
from typing import TypeVar

import numpy as np

from hmr_ros.body.model import BodyModel, SkinnedModel
from hmr_ros.evaluation.prediction import Crops
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import CropTransform, MARGIN
from hmr_ros.training import synthetic
from hmr_ros.training.synthetic import (
    CutoutStore, Recipe, render_cutouts, render_sequences, SyntheticPeople)
from hmr_ros.training.synthetic.cameras import sample_views
from hmr_ros.training.synthetic.cutouts import draw_betas, pose_crowd
from hmr_ros.training.synthetic.labels import project
from hmr_ros.training.synthetic.motions import sample_poses
from hmr_ros.user_cache import cache_folder

#: training uses other seeds.
SEED = 9001
MEAN_POSE_SEED = 77
#: drawn for the crops; each crop takes a random piece of one.
BACKGROUNDS = 100
_CHUNK = 50
Store = TypeVar('Store')


@dataclass(frozen=True)
class Truth:
    """
    What is known of N people, float32, metres in the optical frame, pixels of the pictures.

    joints3d (N, 24, 3), joints2d (N, 24, 2), inside (N, 24) joint lies in the crop, seen (N, 24)
    and nothing hides it, rotmats (N, 24, 3, 3), betas (N, 10), transl (N, 3), box (N, 4) x0, y0,
    x1, y1
    """

    joints3d: np.ndarray
    joints2d: np.ndarray
    inside: np.ndarray
    seen: np.ndarray
    rotmats: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    box: np.ndarray


def held_out_store(body: BodyModel, count: int) -> CutoutStore:
    """Return `count` rendered people, kept in the user's cache folder."""
    return cached(body, f'{count}', lambda: render_cutouts(body, count, seed=SEED),
                  CutoutStore.load)


def held_out_films(body: BodyModel, count: int, frames: int, rate_hz: float) -> CutoutStore:
    """Return `count` rendered sequences of `frames` frames, kept in the user's cache folder."""
    return cached(body, f'{count}x{frames}at{rate_hz:g}', lambda: render_sequences(
        body, count, frames, SEED, rate_hz), CutoutStore.load)


def cached(
        body: SkinnedModel, name: str, render: Callable[[], Store],
        load: Callable[[str | Path], Store], *files: str) -> Store:
    """
    Load or render and save a store.

    The file name holds a digest of the body and of the code that renders, that of `files` with it,
    so that a changed generator never meets old people.
    """
    digest = hashlib.sha256(body.sha256.encode())
    for path in (*sorted(Path(synthetic.__file__).parent.glob('*.py')), *map(Path, files)):
        digest.update(path.read_bytes())
    path = cache_folder() / f'held_out_{SEED}_{name}_{digest.hexdigest()[:12]}.npz'
    if path.is_file():
        return load(path)
    store = render()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.stem + '.part.npz')
    store.save(unfinished)
    unfinished.replace(path)
    return store


def held_out_people(store: CutoutStore, size: int, recipe: Recipe) -> SyntheticPeople:
    """Compose `store` into crops of `size` pixels, before backgrounds that are drawn."""
    return SyntheticPeople(store, size, SEED, recipe, backgrounds=BACKGROUNDS)


def draw_samples(people: SyntheticPeople, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Samples of the people `indices`; each is the same whatever the others are."""
    rows = [people.sample(int(i), people.rng(int(i))) for i in indices]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def crops_of(samples: dict[str, np.ndarray]) -> Crops:
    """Crops, their places and cameras of samples of SyntheticPeople."""
    size = samples['image'].shape[1]
    transforms = [
        CropTransform(float(centre[0]), float(centre[1]), float(side), size)
        for centre, side in zip(samples['crop_centre'], samples['crop_side'])]
    # The picture has no edges; its size only says that the principal point is its centre.
    cameras = [
        Camera(float(f), float(f), float(cx), float(cy), 2 * float(cx), 2 * float(cy))
        for f, cx, cy in samples['camera']]
    return Crops(samples['image'], transforms, cameras)


def truth_of(samples: dict[str, np.ndarray], crops: Crops) -> Truth:
    """Labels of samples of SyntheticPeople."""
    size = samples['image'].shape[1]
    pixels = samples['keypoints2d'][:, :24]
    inside = np.all((pixels >= 0) & (pixels < size), axis=-1)
    joints2d = np.stack([t.to_image(p) for t, p in zip(crops.transforms, pixels)])
    return Truth(
        samples['joints3d'][:, :24], joints2d, inside, samples['visible'][:, :24] > 0,
        samples['rotmats'], samples['betas'], samples['transl'], samples['box'])


@dataclass(frozen=True)
class MeanPose:
    """
    The best answers that do not look at the picture, float32.

    camera (24, 3)  mean of root-relative joints in the optical frame: least MPJPE
    own (24, 3)     mean of root-relative joints in the axes of the pelvis: a body's shape, for
                    PA-MPJPE, which finds its orientation by itself
    uv (24, 2)      mean place in the crop, -0.5 to 0.5: for PCK
    """

    camera: np.ndarray
    own: np.ndarray
    uv: np.ndarray

    def pixels(self, transforms: list[CropTransform]) -> np.ndarray:
        """Pixels `(N, 24, 2)` in the pictures of N crops."""
        return np.stack([t.to_image((self.uv + 0.5) * t.size) for t in transforms])


def mean_pose(body: BodyModel, count: int = 2000) -> MeanPose:
    """Means over `count` random people and views of another seed than the held-out ones."""
    camera, own, uv = [], [], []
    for first in range(0, count, _CHUNK):
        rng = np.random.default_rng([MEAN_POSE_SEED, first])
        betas, pose = draw_betas(rng, _CHUNK), sample_poses(rng, _CHUNK)
        crowd = pose_crowd(body, pose, betas, sample_views(rng, _CHUNK))
        joints = crowd.joints3d[:, :24]
        relative = joints - joints[:, :1]
        camera.append(relative)
        own.append(relative @ crowd.rotmats[:, 0])
        views = (crowd.views.focal, crowd.views.centre)
        outline = project(crowd.vertices, *views)
        low, high = outline.min(axis=1), outline.max(axis=1)
        side = MARGIN * (high - low).max(axis=1)
        uv.append((project(joints, *views) - 0.5 * (low + high)[:, None]) / side[:, None, None])
    return MeanPose(*(
        np.concatenate(rows).mean(axis=0).astype(np.float32) for rows in (camera, own, uv)))
