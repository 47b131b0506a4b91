# SPDX-License-Identifier: Apache-2.0
"""Errors by resolution: none for the truth, more the less an engine can see."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch', reason='the resolutions of training need torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.evaluation.rsc_net import compared, Errors, errors_by_resolution  # noqa: E402
from hmr_ros.perception import rotations, rsc_net  # noqa: E402
from hmr_ros.perception.mesh_recovery import RecoverySettings, settings_for  # noqa: E402
from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.training.synthetic import CLEAN, render_cutouts, SyntheticPeople  # noqa: E402

pytestmark = pytest.mark.torch
COUNT = 5


def test_truth_and_noise() -> None:
    body = load_body()
    people = SyntheticPeople(render_cutouts(body, COUNT, seed=5, size=96), 96, recipe=CLEAN,
                             backgrounds=4, margin=rsc_net.MARGIN)
    samples = [people.sample(i, people.rng(i)) for i in range(COUNT)]
    pose6d = rotations.matrix_to_6d(np.stack([s['rotmats'] for s in samples])).reshape(COUNT, 144)
    betas, fed = np.stack([s['betas'] for s in samples]), []

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        fed.append(feeds)
        worse = 0.05 * feeds['row'][0]
        noise = np.random.default_rng(0).normal(size=pose6d.shape)
        return {'pose6d': pose6d + worse * noise, 'betas': betas, 'cam': np.ones((COUNT, 3))}

    def flawless(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {'pose6d': pose6d, 'betas': betas, 'cam': np.ones((COUNT, 3))}

    settings = RecoverySettings(96, (0, 0, 0), (1, 1, 1))
    errors, none = errors_by_resolution([run, flawless], body, people, settings)
    rows = errors.rows()
    assert none.mpjpe.shape == none.pa_mpjpe.shape == (5, COUNT) and none.mpjpe.max() < 0.01
    assert [row['pixels'] for row in rows] == [224, 176, 96, 52, 32]
    assert rows[0]['mpjpe_mm'] < 0.01 and rows[0]['pa_mpjpe_mm'] < 0.01
    errors = [row['pa_mpjpe_mm'] for row in rows]
    assert errors == sorted(errors) and errors[1] > 1
    # What the engine sees loses detail, whatever its size.
    detail = [np.abs(np.diff(feeds['image'], axis=-1)).mean() for feeds in fed]
    assert detail == sorted(detail, reverse=True) and detail[4] < 0.85 * detail[0]
    assert [int(feeds['row'][0]) for feeds in fed] == [0, 1, 2, 3, 4]


def test_the_shipped_engine_sees_bodies_at_every_resolution() -> None:
    """Below the mean pose's 129 mm by far (model card: 86 to 89 mm of 1,000 people)."""
    body, engine = load_body(), load_engine('rsc_net')
    settings = settings_for(engine.entry, body)
    people = SyntheticPeople(render_cutouts(body, 24, seed=6, size=160), settings.image_size,
                             recipe=CLEAN, backgrounds=4, margin=rsc_net.MARGIN)
    errors, = errors_by_resolution([engine.run], body, people, settings)
    rows = errors.rows()
    assert all(row['pa_mpjpe_mm'] < 110 for row in rows), rows
    assert rows[4]['pa_mpjpe_mm'] < 1.15 * rows[0]['pa_mpjpe_mm']


def test_compared_people_by_people() -> None:
    """A difference that is the same for everybody has no spread, however people differ."""
    rng = np.random.default_rng(1)
    first = Errors(*rng.uniform(50, 150, (2, 5, 400)))
    rows = compared(Errors(first.mpjpe, 0.9 * first.pa_mpjpe), first)
    np.testing.assert_allclose([row['pa_change_percent'] for row in rows], -10)
    np.testing.assert_allclose([row['pa_spread_percent'] for row in rows], 0, atol=1e-9)
    noisy = compared(Errors(first.mpjpe, rng.permutation(first.pa_mpjpe.T).T), first)
    assert all(abs(row['pa_change_percent']) < 4 * row['pa_spread_percent'] for row in noisy)
    assert all(1 < row['pa_spread_percent'] < 3 for row in noisy)
