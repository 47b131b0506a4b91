# SPDX-License-Identifier: Apache-2.0
"""Shares of the draw: what they change, and that the defaults change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from hmr_ros.training.synthetic import appearance as ap
from hmr_ros.training.synthetic import Population, SyntheticError
from hmr_ros.training.synthetic.appearance import draw_look
from hmr_ros.training.synthetic.cameras import sample_views
from hmr_ros.training.synthetic.lights import draw_light
from hmr_ros.training.synthetic.motions import sample_poses
from hmr_ros.training.synthetic.shading import GROUND, KEY_COLOUR, SKY

UP = np.float64([0, -1, 0])
COUNT = 200


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_defaults_draw_people_as_ever() -> None:
    population = Population()
    np.testing.assert_array_equal(population.poses(rng(), 20), sample_poses(rng(), 20))
    np.testing.assert_array_equal(population.look(rng()).cloths, draw_look(rng()).cloths)
    np.testing.assert_array_equal(population.light(rng(), UP), draw_light(rng(), UP))
    np.testing.assert_array_equal(
        population.views(rng(), 20).place, sample_views(rng(), 20).place)


def test_coats_cover_the_thighs_in_the_cloth_of_the_top() -> None:
    draws = rng()
    looks = [Population(coats=0.5).look(draws) for _ in range(COUNT)]
    coats = [look for look in looks if look.cuts[ap.COAT] > 0]
    assert 0.35 < len(coats) / COUNT < 0.65
    assert all(look.cuts[ap.SKIRT] >= 0.35 and look.cuts[ap.SLEEVE] > 1.8 for look in coats)


def test_dark_clothes_are_dark_and_plain() -> None:
    draws = rng()
    for look in (Population(dark=1.0).look(draws) for _ in range(20)):
        for slot in (ap.TOP, ap.BOTTOM):
            assert 0 <= look.cloths[slot, :3].min() and look.cloths[slot, :3].max() < 0.08
            assert look.cloths[slot, ap.PATTERN] == ap.PLAIN


def test_clouds_take_from_the_lamp_and_give_to_the_sky() -> None:
    draws = rng()
    for light in (Population(overcast=1.0).light(draws, UP) for _ in range(20)):
        assert (light[KEY_COLOUR] < light[SKY]).all() and (light[GROUND] < light[SKY]).all()


def test_pedestrians_are_on_their_feet() -> None:
    def seated(share: float) -> float:
        hips = Population(pedestrians=share).poses(rng(), COUNT)[:, [1, 2]]
        return float((np.linalg.norm(hips, axis=-1).min(axis=1) > 1.0).mean())
    assert seated(0.0) > 0.08 > 0.02 > seated(1.0)


def test_cameras_hang_higher() -> None:
    def steep(share: float) -> float:
        return float((Population(surveillance=share).views(rng(), COUNT).rotation[:, 2, 1] < -0.2)
                     .mean())
    assert steep(1.0) > steep(0.0) + 0.3


@pytest.mark.parametrize('shares, named', [
    ({'coats': 1.2}, 'coats is 1.2'), ({'dark': -0.1}, 'dark is -0.1'),
    ({'hats': 0.5}, "no share 'hats'")])
def test_bad_share_is_named(shares: dict[str, float], named: str) -> None:
    with pytest.raises(SyntheticError, match=named):
        Population.of(shares)
