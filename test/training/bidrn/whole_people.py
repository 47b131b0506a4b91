# SPDX-License-Identifier: Apache-2.0
"""A small whole body of 55 joints and batches of people, fabricated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from hmr_ros.body.whole_body import load_whole_body, WholeBodyModel
from hmr_ros.body.whole_body_joints import NAMED_VERTICES, PARENTS
from hmr_ros.networks.bidrn.layout import Plan
from hmr_ros.training.bidrn.losses import project
from hmr_ros.training.bidrn.smplx_layer import WholeBodyJoints

_VERTICES, _FACES = 300, 500


def whole_body_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of an SMPL-X-format file whose numbers mean nothing."""
    rng = np.random.default_rng(seed)
    joints = len(PARENTS)
    weights = rng.random((_VERTICES, joints)) ** 8
    regressor = rng.random((joints, _VERTICES)) ** 8
    corners = rng.random((51, 3))
    contour = rng.random((79, 17, 3))
    return {
        'v_template': rng.normal(size=(_VERTICES, 3)) * 0.4,
        'shapedirs': rng.normal(size=(_VERTICES, 3, 20)) * 0.02,
        'posedirs': rng.normal(size=(_VERTICES, 3, 9 * (joints - 1))) * 1e-3,
        'J_regressor': regressor / regressor.sum(1, keepdims=True),
        'weights': weights / weights.sum(1, keepdims=True),
        'kintree_table': np.stack([PARENTS, np.arange(joints)]),
        'f': rng.integers(0, _VERTICES, (_FACES, 3)),
        'hands_meanl': rng.normal(size=45) * 0.2, 'hands_meanr': rng.normal(size=45) * 0.2,
        'hands_componentsl': np.eye(45), 'hands_componentsr': np.eye(45),
        'lmk_faces_idx': rng.integers(0, _FACES, 51),
        'lmk_bary_coords': corners / corners.sum(1, keepdims=True),
        'dynamic_lmk_faces_idx': rng.integers(0, _FACES, (79, 17)),
        'dynamic_lmk_bary_coords': contour / contour.sum(2, keepdims=True),
        'named_vertices': rng.choice(_VERTICES, len(NAMED_VERTICES), replace=False)}


def fabricated_body(folder: Path, seed: int = 0) -> WholeBodyModel:
    """The body of `whole_body_arrays`, through a file."""
    path = folder / 'SMPLX_NEUTRAL.npz'
    np.savez(path, **whole_body_arrays(seed))
    return load_whole_body(path)


def fabricated_batch(
        body: WholeBodyModel, plan: Plan, count: int = 2, seed: int = 0,
        betas_spread: float = 1.0) -> dict[str, torch.Tensor]:
    """People of small turns before the network's own camera, on noise."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int, spread: float = 1.0) -> torch.Tensor:
        return spread * torch.randn(count, *shape, generator=draw)
    height, width = plan.image
    pose, expression = normal(53, 3, spread=0.2), normal(10)
    betas = normal(10, spread=betas_spread)
    transl = torch.tensor([0.0, 0.0, 45.0]) + normal(3, spread=0.05)
    joints = WholeBodyJoints(body)(pose, betas, expression)
    places = project(joints + transl[:, None]) * torch.tensor([width, height])
    parts = [places[:, rows] for rows in (slice(25, 45), slice(45, 65), slice(65, 137))]
    return {
        'image': torch.randint(0, 256, (count, 3, height, width), generator=draw,
                               dtype=torch.uint8),
        'pose': pose, 'betas': betas, 'expression': expression, 'joints3d': joints + transl[:, None],
        'joints2d': places, 'transl': transl, 'box_known': torch.ones(count, 3),
        'inside': ((places >= 0) & (places < places.new_tensor([width, height]))).all(-1).float(),
        'boxes': torch.stack([torch.cat([p.amin(1), p.amax(1)], 1) for p in parts], 1)}
