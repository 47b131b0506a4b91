# SPDX-License-Identifier: Apache-2.0
"""Sequences are one person in one motion, and every frame is a sample like any other."""

from __future__ import annotations

from capsule_body import capsule_body
import numpy as np
import pytest

from hmr_ros.training.synthetic import CutoutStore, render_sequences, SyntheticError
from hmr_ros.training.synthetic.poses import LIMITS
from hmr_ros.training.synthetic.sequences import filmed, motion_angles, MOVES

COUNT, FRAMES, RATE_HZ = 3, 6, 15.0


@pytest.fixture(scope='module')
def films() -> CutoutStore:
    return render_sequences(capsule_body(), COUNT, FRAMES, 5, RATE_HZ, size=64)


def test_shape_and_clothes_stay_and_the_body_moves_on(films: CutoutStore) -> None:
    assert len(films) == COUNT * FRAMES
    for rows in np.split(np.arange(len(films)), COUNT):
        assert not np.ptp(films.betas[rows], axis=0).any()
        steps = np.linalg.norm(np.diff(films.joints3d[rows] - films.joints3d[rows, :1], axis=0),
                               axis=-1)
        # No joint moves faster against the pelvis than a sprinter's hand.
        assert 0 < steps.max() < 12 / RATE_HZ
        colours = [np.median(films.image(i)[..., :3].reshape(-1, 3), axis=0) for i in rows]
        assert np.ptp(colours, axis=0).max() < 90


def test_equal_arguments_give_equal_films(films: CutoutStore) -> None:
    again = render_sequences(capsule_body(), 1, FRAMES, 5, RATE_HZ, size=64)
    np.testing.assert_array_equal(again.pixels, films.pixels[:len(again.pixels)])
    np.testing.assert_array_equal(again.joints3d, films.joints3d[:FRAMES])


@pytest.mark.parametrize('name', MOVES)
def test_motions_are_smooth_and_within_the_limits(name: str) -> None:
    """Twice the frames of the same film lie between its frames: steps about halve."""
    slow, fast = (motion_angles(np.random.default_rng(3), name, frames, rate)
                  for frames, rate in ((30, 15.0), (60, 30.0)))
    np.testing.assert_allclose(fast[::2], slow, atol=1e-9)
    assert np.all(slow >= LIMITS[:, 0] - 1e-9) and np.all(slow <= LIMITS[:, 1] + 1e-9)
    coarse, fine = (np.abs(np.diff(angles, axis=0)).max() for angles in (slow, fast))
    assert 0 < fine < 0.75 * coarse


def test_people_stay_in_front_of_the_camera() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        views = filmed(rng, str(rng.choice(list(MOVES))), 45, RATE_HZ)
        assert views.place[:, 2].min() > 1.19
        np.testing.assert_allclose(np.linalg.det(views.rotation), 1)


def test_walkers_walk_where_they_look() -> None:
    """With a still camera the path follows the heading."""
    for seed in range(40):
        views = filmed(np.random.default_rng(seed), 'walk', 10, RATE_HZ)
        if np.ptp(views.rotation, axis=0).any():
            continue
        way = (views.place[1] - views.place[0]) @ views.rotation[0]
        ahead = np.array([np.sin(views.heading[0]), 0, np.cos(views.heading[0])])
        assert way @ ahead / np.linalg.norm(way) > 0.999


def test_nothing_is_no_film() -> None:
    with pytest.raises(SyntheticError, match='frames=0'):
        render_sequences(capsule_body(), 1, 0, 1)
