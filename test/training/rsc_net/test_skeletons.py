# SPDX-License-Identifier: Apache-2.0
"""Skeletons without pictures: labels that agree with each other, as those of pictures do."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.networks.rsc_net import Body  # noqa: E402
from hmr_ros.perception import rotations  # noqa: E402
from hmr_ros.training.kinematics import RestSkeleton  # noqa: E402
from hmr_ros.training.rsc_net import skeletons  # noqa: E402
from hmr_ros.training.rsc_net.losses import basic_terms, decode  # noqa: E402

pytestmark = pytest.mark.torch
COUNT = 64


@pytest.fixture(scope='module')
def people() -> skeletons.Skeletons:
    return skeletons.draw_skeletons(load_body(), COUNT, seed=1)


def test_the_truth_has_no_loss(people: skeletons.Skeletons) -> None:
    batch = skeletons.draw_batch(people, 40, np.random.default_rng(0))
    pose6d = rotations.matrix_to_6d(batch['rotmats'].numpy()).reshape(40, 144)
    focal = 2 * 5000 / 224
    cam = torch.stack([focal / batch['transl'][:, 2], *batch['transl'].T[:2]], 1)
    terms = basic_terms(
        decode(Body(torch.from_numpy(pose6d), batch['betas'], cam)), RestSkeleton(load_body()),
        batch)
    assert terms['joints3d'] < 1e-6 and terms['pose'] < 1e-6 and terms['camera'] < 1e-6
    # A far camera cannot repeat the perspective of a near one to the pixel.
    assert terms['joints2d'] < 0.01


def test_crops_hold_the_people_and_positions_are_theirs(
        people: skeletons.Skeletons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skeletons, '_NOISE', 0.0)
    batch = skeletons.draw_batch(people, 200, np.random.default_rng(1))
    assert batch['uvd'].shape == (200, 96, 3)
    torch.testing.assert_close(2 * batch['uvd'][:, :24, :2], batch['joints2d'])
    spans = (batch['uvd'][..., :2].amax(1) - batch['uvd'][..., :2].amin(1)).amax(1)
    assert 0.6 < spans.min() and spans.max() < 1.15 and abs(spans.mean() - 1 / 1.2) < 0.05
    assert batch['confidence'].mean() > 0.97


def test_the_same_seed_draws_the_same_people(people: skeletons.Skeletons) -> None:
    again, other = (skeletons.draw_skeletons(load_body(), COUNT, seed) for seed in (1, 2))
    np.testing.assert_array_equal(again.points, people.points)
    assert np.abs(other.points - people.points).max() > 0.1
