# SPDX-License-Identifier: Apache-2.0
"""Losses of the compact network have their least value at the truth."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='losses need torch')
from hmr_ros.networks.keypoint_guided.compact import cell_centres, Reading  # noqa: E402
from hmr_ros.networks.keypoint_guided.prediction import Prediction  # noqa: E402
from hmr_ros.training.keypoint_guided.compact_losses import (  # noqa: E402
    compact_terms, MAP_SIGMA, map_divergence, READ)
from hmr_ros.training.keypoint_guided.losses import heatmap_targets  # noqa: E402

pytestmark = pytest.mark.torch
PEOPLE, SIZE = 3, 16


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        'uvd': 0.8 * torch.rand(PEOPLE, 96, 3) - 0.4, 'uvd_weight': torch.ones(PEOPLE, 96, 3),
        'visible': torch.ones(PEOPLE, 96), 'phi': torch.rand(PEOPLE, 23, 2),
        'betas': torch.randn(PEOPLE, 10), 'camera_scale': torch.full((PEOPLE,), 0.5),
        'pose_known': torch.ones(PEOPLE), 'camera_known': torch.ones(PEOPLE)}


def perfect(batch: dict[str, torch.Tensor]) -> tuple[Prediction, Reading]:
    logits = torch.log(heatmap_targets(batch['uvd'], SIZE, MAP_SIGMA) + 1e-30)
    cam = torch.cat([batch['camera_scale'][:, None], torch.zeros(PEOPLE, 2)], 1)
    prediction = Prediction(batch['uvd'], torch.full((PEOPLE, 96, 3), 0.01), batch['phi'],
                            batch['betas'], cam, torch.zeros(PEOPLE, 1))
    return prediction, Reading(logits, batch['uvd'])


def test_the_truth_costs_nothing(batch: dict[str, torch.Tensor]) -> None:
    terms = compact_terms(*perfect(batch), batch, 0.3)
    assert set(terms) == {*READ, 'maps'}
    for name, value in terms.items():
        assert name == 'keypoints' or value.abs() < 1e-5, name


def test_maps_of_the_truth_are_read_at_the_truth(batch: dict[str, torch.Tensor]) -> None:
    """Targets and expectations use the same centres of cells; the border cuts little."""
    share = perfect(batch)[1].logits.flatten(2).softmax(-1)
    inside = (batch['uvd'][..., :2].abs() < 0.3).all(-1)
    error = (share @ cell_centres(SIZE) - batch['uvd'][..., :2])[inside]
    assert error.abs().max() < 0.02 / SIZE * 16


def test_read_weight_leaves_the_maps_alone(batch: dict[str, torch.Tensor]) -> None:
    prediction, reading = perfect(batch)
    wrong = Reading(torch.randn(PEOPLE, 96, SIZE, SIZE), reading.uvd + 0.1)
    small, large = (compact_terms(prediction, wrong, batch, weight) for weight in (0.1, 0.3))
    assert small['maps'] == large['maps'] > 0
    torch.testing.assert_close(3 * small['first'], large['first'])


def test_divergence_is_that_of_torch_distributions(batch: dict[str, torch.Tensor]) -> None:
    logits = torch.randn(PEOPLE, 96, SIZE, SIZE)
    goal = heatmap_targets(batch['uvd'], SIZE, MAP_SIGMA).flatten(2)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(probs=goal + 1e-12),
        torch.distributions.Categorical(logits=logits.flatten(2))).mean()
    torch.testing.assert_close(map_divergence(logits, batch), expected, atol=1e-4, rtol=1e-4)


def test_keypoints_outside_the_crop_do_not_count(batch: dict[str, torch.Tensor]) -> None:
    batch['uvd_weight'][:, 5:] = 0
    logits = torch.randn(PEOPLE, 96, SIZE, SIZE)
    changed = logits.clone()
    changed[:, 5:] += torch.randn(PEOPLE, 91, SIZE, SIZE)
    torch.testing.assert_close(map_divergence(logits, batch), map_divergence(changed, batch))
