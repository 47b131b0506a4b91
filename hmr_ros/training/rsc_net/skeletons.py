# SPDX-License-Identifier: Apache-2.0
"""
Teaches the regressor of the compact network from skeletons, without a picture.

From where keypoints are to how joints turn is a map that needs far more people than pictures can
show in the same time, and no picture at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.progress import track
import torch

from hmr_ros.body.model import BodyModel
from hmr_ros.networks.rsc_net import Body, RscNet
from hmr_ros.networks.rsc_net.backbone import ScaledPyramid
from hmr_ros.perception.rsc_net import MARGIN
from hmr_ros.training.kinematics import RestSkeleton
from hmr_ros.training.rsc_net.data import fitted_translation, JOINTS
from hmr_ros.training.rsc_net.losses import basic_terms, decode, SCALE
from hmr_ros.training.synthetic.cameras import sample_views
from hmr_ros.training.synthetic.cutouts import draw_betas, pose_crowd
from hmr_ros.training.synthetic.labels import keypoint_targets, project
from hmr_ros.training.synthetic.motions import sample_poses

_CHUNK, _BATCH, _RATE = 50, 256, 1e-3
#: how far off keypoints are, in crop sides, of a typical person, and how much people differ (log).
_NOISE, _NOISE_SPREAD = 0.015, 0.7
#: boxes are larger or smaller and beside the person by so much of the crop.
_ZOOM, _SHIFT = 0.08, 0.03


@dataclass(frozen=True)
class Skeletons:
    """
    N people before their cameras, float32, metres in optical axes.

    points (N, 96, 3) keypoints, rotmats (N, 24, 3, 3), betas (N, 10), transl (N, 3), focal (N,)
    and centre (N, 2) in pixels
    """

    points: np.ndarray
    rotmats: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    focal: np.ndarray
    centre: np.ndarray


def draw_skeletons(body: BodyModel, count: int, seed: int) -> Skeletons:
    """Draw people as they are drawn for pictures."""
    columns: list[list[np.ndarray]] = [[] for _ in range(6)]
    for first in track(range(0, count, _CHUNK), 'skeletons'):
        rng = np.random.default_rng([seed, 31, first])
        views = sample_views(rng, _CHUNK)
        crowd = pose_crowd(body, sample_poses(rng, _CHUNK), draw_betas(rng, _CHUNK), views)
        points = np.concatenate(
            [crowd.joints3d, crowd.vertices[:, body.marker_vertices]], axis=1)
        rows = (points, crowd.rotmats, crowd.betas, crowd.transl, views.focal, views.centre)
        for column, row in zip(columns, rows):
            column.append(np.asarray(row, np.float32))
    return Skeletons(*(np.concatenate(column)[:count] for column in columns))


def draw_batch(
        people: Skeletons, count: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Put `count` of them into crops: labels as `Resolutions` has, and `uvd` (N, 96, 3), noisy."""
    i = rng.integers(len(people.points), size=count)
    points, transl = people.points[i], people.transl[i]
    picture = project(points, people.focal[i], people.centre[i])
    low, high = picture.min(1), picture.max(1)
    side = MARGIN * (high - low).max(1) * np.exp(rng.normal(0, _ZOOM, count))
    middle = 0.5 * (low + high) + side[:, None] * rng.normal(0, _SHIFT, (count, 2))
    pixels = (picture - middle[:, None]) / side[:, None, None] + 0.5
    uvd, _ = keypoint_targets(pixels, points[..., 2] - points[:, :1, 2], 1)
    joints2d, joints3d = 2 * pixels[:, :JOINTS] - 1, points[:, :JOINTS] - transl[:, None]
    labels = {
        'uvd': uvd + _noise(rng, uvd.shape), 'rotmats': people.rotmats[i], 'betas': people.betas[i],
        'joints2d': joints2d, 'joints3d': joints3d,
        'confidence': np.all(np.abs(joints2d) <= 1, -1),
        'transl': np.stack([fitted_translation(*pair) for pair in zip(joints3d, joints2d)])}
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in labels.items()}


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Errors of keypoints: some people and some keypoints are seen far worse than others."""
    person = _NOISE * np.exp(rng.normal(0, _NOISE_SPREAD, (shape[0], 1, 1)))
    keypoint = np.exp(rng.normal(0, _NOISE_SPREAD, (*shape[:2], 1)))
    return person * keypoint * rng.normal(size=shape)


def teach_regressor(network: RscNet, body: BodyModel, count: int, steps: int, seed: int) -> None:
    """
    Train the regressor alone on `count` skeletons.

    What it reads of the means of the picture begins at zero and is learned with the pictures.
    """
    people, rest = draw_skeletons(body, count, seed), RestSkeleton(body)
    regressor, means = network.regressor, ScaledPyramid.MEANS
    with torch.no_grad():
        regressor.fc1.weight[:, :means] = 0
    optimizer = torch.optim.Adam(regressor.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps)
    regressor.train()
    for step in track(range(steps), 'regressor on skeletons'):
        batch = draw_batch(people, _BATCH, np.random.default_rng([seed, 32, step]))
        positions = ScaledPyramid.POSITION_GAIN * batch['uvd'].flatten(1)
        feature = torch.cat([torch.zeros(len(positions), means), positions], 1)
        terms = basic_terms(decode(Body(*regressor(feature))), rest, batch)
        optimizer.zero_grad()
        (SCALE * torch.stack(list(terms.values())).sum()).backward()
        torch.nn.utils.clip_grad_norm_(regressor.parameters(), 5.0)
        optimizer.step()
        schedule.step()
