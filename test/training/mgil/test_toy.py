# SPDX-License-Identifier: Apache-2.0
"""The stick figures of sheet mgil, check 13, as far as seconds go."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')

from hmr_ros.evaluation.mgil_complexity import count  # noqa: E402
from hmr_ros.networks.mgil import NAMED  # noqa: E402
from hmr_ros.training.mgil.toy import (  # noqa: E402
    compare, figures, judge, judge_int8, JOINTS, LIMBS, SIZE, ToyNetwork, train)

pytestmark = pytest.mark.torch


@pytest.mark.parametrize('name, parameters, mmacs', [
    ('strided', 50_873, 2.86), ('spd', 65_993, 4.07), ('flie', 77_705, 5.25),
    ('add', 112_553, 8.79), ('mgil', 112_755, 8.79), ('control', 97_433, 7.58)])
def test_counts_of_the_sheet(name: str, parameters: int, mmacs: float) -> None:
    found, gmacs = count(ToyNetwork(NAMED[name]), SIZE, SIZE)
    assert found == parameters and round(1000 * gmacs, 2) == mmacs


def test_figures_are_drawn_where_their_joints_are() -> None:
    data = figures(200, 3)
    images, joints = 0.3 * data.images.numpy() + 0.35, data.joints.numpy()
    assert images.shape == (200, 3, SIZE, SIZE) and joints.shape == (200, JOINTS, 2)
    assert joints.min() >= 1 and joints.max() <= SIZE - 2
    # The middle of the spine is white or grey, whatever is behind; the corners are not.
    middle = np.rint(joints[:, 1:3].mean(axis=1)).astype(int)
    spine = images[np.arange(200), :, middle[:, 1], middle[:, 0]].mean()
    assert spine > 0.45 > 0.3 > images[:, :, :3, :3].mean()
    assert len(LIMBS) == 8
    # Red is the side +1, whose hands are to the right of the neck more often than not.
    assert (joints[:, 4, 0] - joints[:, 6, 0]).mean() > 5


def test_the_same_seed_draws_the_same() -> None:
    first, second, other = figures(20, 1), figures(20, 1), figures(20, 2)
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, other.images)


def test_networks_learn() -> None:
    """A few of the steps: far from the sheet's 82 percent, and from chance."""
    scores = compare({'spd': NAMED['spd']}, (1,), steps=100, pictures=1024, held_out=256)
    score, = scores['spd']
    chance = judge(ToyNetwork(NAMED['spd']).eval(), figures(256, 1_000_001))
    assert score.pck > chance.pck + 5 and score.mean_error_px < chance.mean_error_px / 2


@pytest.mark.slow
def test_int8_loses_no_more_than_the_sheet_allows() -> None:
    """Check 12, after a tenth of the steps; after all of them it loses 0.1 of 89.1 percent."""
    pytest.importorskip('onnxruntime', reason='quantization is done by onnxruntime')
    network, test = train(NAMED['mgil'], 1, figures(1024, 1), steps=150), figures(1024, 1_000_001)
    before, after = judge(network, test), judge_int8(network, figures(256, 77), test)
    assert before.pck > 10 and before.pck - after.pck <= 1.5
    # Rounding shows, so something was rounded.
    assert 0 < abs(after.mean_error_px - before.mean_error_px) < 0.03
