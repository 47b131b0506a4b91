# SPDX-License-Identifier: Apache-2.0
"""People in motion: the generator's motions frame by frame, cameras that stand still or move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from hmr_ros.body.model import BodyModel
from hmr_ros.training.synthetic.anatomy import study
from hmr_ros.training.synthetic.cameras import sample_views, Views
from hmr_ros.training.synthetic.cutouts import (
    CutoutStore, draw_betas, pose_crowd, render_one)
from hmr_ros.training.synthetic.errors import SyntheticError
from hmr_ros.training.synthetic.labels import twist_labels
from hmr_ros.training.synthetic.motions import gesture, moments, MOTIONS, OWN_ARMS
from hmr_ros.training.synthetic.poses import limited, Pose, SPREAD, to_rotvecs


@dataclass(frozen=True)
class Move:
    """Share of the sequences, cycles a second, metres a second, turn in radians a second."""

    share: float
    cycles: float
    speed: float = 0.0
    yaw_rate: float = 0.0


#: how the motions run on; `tumble` has no next moment.
MOVES = {
    'walk': Move(0.36, 0.95, 1.25), 'run': Move(0.08, 1.4, 2.8), 'stand': Move(0.22, 0.15),
    'sit': Move(0.10, 0.12), 'bend': Move(0.08, 0.3), 'crouch': Move(0.06, 0.3),
    'turn': Move(0.07, 0.8, 0.3, 1.2), 'fall': Move(0.03, 0.8)}
#: share of the cameras that move, and how fast: metres a second, radians a second.
MOVING_CAMERAS, CAMERA_SPEED, CAMERA_TURN = 0.5, 0.5, 0.25
_NEAREST_M = 1.2
#: unrest of joints on top of a motion: share of SPREAD, and its slowest and fastest swing in Hz.
_UNREST, _SLOWEST, _FASTEST = 0.4, 0.15, 0.7


def motion_angles(
        rng: np.random.Generator, name: str, frames: int, rate_hz: float) -> np.ndarray:
    """Angles `(frames, A)` in radians, within the limits, of one person who keeps moving."""
    move = MOVES[name]
    seconds = np.arange(frames) / rate_hz
    phase = move.cycles * np.exp(rng.normal(0, 0.15)) * seconds
    # Nobody gets up from a fall; every other motion begins anywhere and goes round.
    phase = np.minimum(phase, 0.999) if name == 'fall' else (phase + rng.random()) % 1.0

    def whole(pose: Pose, draws: np.random.Generator, moment: np.ndarray) -> None:
        MOTIONS[name][0](pose, draws, moment)
        if name not in OWN_ARMS:
            gesture(pose, draws)

    return limited(moments(whole, rng, phase) + _unrest(rng, seconds))


def _unrest(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """What differs from person to person and what never stands still, `(frames, A)` radians."""
    count = len(SPREAD)
    rate = 2 * np.pi * rng.uniform(_SLOWEST, _FASTEST, count)
    swing = np.sin(seconds[:, None] * rate + rng.uniform(0, 2 * np.pi, count))
    return SPREAD * (rng.normal(size=count) + _UNREST * rng.normal(size=count) * swing)


def filmed(
        rng: np.random.Generator, name: str, frames: int, rate_hz: float) -> Views:
    """Views of one person, a row for each frame, with the motion's speed and turn."""
    first, move = sample_views(rng, 1), MOVES[name]
    seconds = (np.arange(frames) - 0.5 * frames) / rate_hz
    heading = first.heading + rng.choice([-1.0, 1.0]) * move.yaw_rate * seconds
    way = np.stack([np.sin(heading), np.zeros(frames), np.cos(heading)], axis=1)
    step = move.speed * rng.uniform(0.75, 1.2) / rate_hz
    path = np.cumsum(way * step, axis=0)
    spot = first.rotation[0].T @ first.place[0] + path - path.mean(axis=0)
    moves = rng.random() < MOVING_CAMERAS
    drift = moves * CAMERA_SPEED * rng.normal(size=3) * [1, 0, 1]
    turn = moves * CAMERA_TURN * rng.normal(size=3) * [0.3, 1, 0.15]
    rotation = Rotation.from_rotvec(seconds[:, None] * turn).as_matrix() @ first.rotation
    place = np.einsum('tij,tj->ti', rotation, spot - seconds[:, None] * drift)
    # The whole path goes back until its nearest point is in front of the camera.
    place[:, 2] += max(0.0, _NEAREST_M - place[:, 2].min())
    return Views(rotation, place, np.repeat(first.focal, frames),
                 np.repeat(first.centre, frames, axis=0), heading)


def render_sequences(
        body: BodyModel, count: int, frames: int, seed: int, rate_hz: float = 15.0,
        size: int = 320) -> CutoutStore:
    """
    Film `count` people for `frames` frames each; row `s * frames + t` is frame t of sequence s.

    Shape, clothes and light of a person stay; the same arguments give the same sequences.
    """
    if count < 1 or frames < 1 or rate_hz <= 0:
        raise SyntheticError(f'count={count}, frames={frames}, rate_hz={rate_hz}; expected at '
                             'least 1, 1, and more than 0')
    anatomy = study(body)
    names, shares = list(MOVES), np.float64([move.share for move in MOVES.values()])
    columns: dict[str, list[np.ndarray]] = {}
    for sequence in range(count):
        rng = np.random.default_rng([seed, 31, sequence])
        name = str(rng.choice(names, p=shares / shares.sum()))
        pose = to_rotvecs(motion_angles(rng, name, frames, rate_hz))
        views, betas = filmed(rng, name, frames, rate_hz), draw_betas(rng, 1).repeat(frames, 0)
        crowd, look = pose_crowd(body, pose, betas, views), rng.integers(2 ** 32)
        rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], axis=1)
        rows = [render_one(body, anatomy, crowd, t, np.random.default_rng(look), size)
                for t in range(frames)]
        known = {'rotmats': crowd.rotmats, 'betas': betas, 'transl': crowd.transl,
                 'joints3d': crowd.joints3d, 'phi': twist_labels(crowd.rotmats, rest)}
        for key in rows[0]:
            columns.setdefault(key, []).extend(row[key] for row in rows)
        for key, values in known.items():
            columns.setdefault(key, []).extend(values)
    return CutoutStore.of(columns, size)
