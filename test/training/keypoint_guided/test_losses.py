# SPDX-License-Identifier: Apache-2.0
"""Loss terms of keypoint_guided: properties, not copied numbers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from hmr_ros.networks.keypoint_guided.network import Prediction  # noqa: E402
from hmr_ros.training.keypoint_guided import losses  # noqa: E402

pytestmark = pytest.mark.torch


def batch(people: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        'uvd': torch.rand(people, 96, 3, generator=generator) - 0.5,
        'uvd_weight': torch.ones(people, 96, 3), 'visible': torch.ones(people, 96),
        'phi': torch.randn(people, 23, 2, generator=generator),
        'betas': torch.randn(people, 10, generator=generator),
        'camera_scale': torch.rand(people, generator=generator) + 0.2,
        'pose_known': torch.ones(people), 'camera_known': torch.ones(people)}


def perfect(labels: dict[str, torch.Tensor]) -> Prediction:
    people = len(labels['uvd'])
    cam = torch.zeros(people, 3)
    cam[:, 0] = labels['camera_scale']
    return Prediction(
        labels['uvd'], torch.full((people, 96, 3), 0.05), labels['phi'], labels['betas'], cam,
        torch.zeros(people, 1216))


def test_perfect_prediction_has_no_error() -> None:
    labels = batch()
    terms = losses.loss_terms(perfect(labels), labels)
    assert terms['keypoints'] == pytest.approx(float(torch.log(torch.tensor(0.1))), abs=1e-5)
    for name in ('twist', 'shape', 'camera'):
        assert terms[name] == pytest.approx(0, abs=1e-6)


def test_maps_of_hidden_keypoints_count_a_third_and_outside_ones_nothing() -> None:
    labels = batch()
    targets = losses.token_map_targets(labels['uvd'], 8)
    assert losses.map_error(targets, targets, labels) == 0
    seen = losses.map_error(0 * targets, targets, labels)
    labels['visible'].zero_()
    torch.testing.assert_close(losses.map_error(0 * targets, targets, labels), seen / 3)
    labels['uvd_weight'].zero_()
    assert losses.map_error(0 * targets, targets, labels) == 0


def test_likelihood_equals_torch_laplace() -> None:
    labels = batch()
    sigma = torch.rand(3, 96, 3) * 0.5 + 0.05
    guess = labels['uvd'] + 0.1 * torch.randn(3, 96, 3)
    expected = -torch.distributions.Laplace(guess, sigma).log_prob(labels['uvd']).mean()
    value = losses.keypoint_likelihood(guess, sigma, labels['uvd'], labels['uvd_weight'])
    torch.testing.assert_close(value, expected)


def test_keypoints_without_weight_do_not_count() -> None:
    labels = batch()
    labels['uvd_weight'][:, 10:] = 0
    guess = labels['uvd'].clone()
    guess[:, 10:] = 1e6
    sigma = torch.full((3, 96, 3), 0.05)
    value = losses.keypoint_likelihood(guess, sigma, labels['uvd'], labels['uvd_weight'])
    assert value == pytest.approx(float(torch.log(torch.tensor(0.1))), abs=1e-5)
    nothing = losses.keypoint_likelihood(guess, sigma, labels['uvd'], torch.zeros(3, 96, 3))
    assert nothing == 0


def test_heatmaps_peak_at_the_keypoint() -> None:
    uvd = torch.tensor([[[0.25, -0.25, 0.0]]])
    heatmap = losses.heatmap_targets(uvd, 32, 1.5)[0, 0]
    row, column = divmod(int(heatmap.argmax()), 32)
    assert {row} <= {7, 8} and {column} <= {23, 24}
    assert heatmap.max() > 0.85


def test_heads_start_by_reading_the_maps() -> None:
    from hmr_ros.training.keypoint_guided.config import StageConfig
    from hmr_ros.training.keypoint_guided.module import KeypointGuidedModule
    network = KeypointGuidedModule(StageConfig(())).network
    uvd = 0.6 * torch.rand(2, 96, 3) - 0.3
    with torch.no_grad():
        coordinates, _ = network.heads(network.tokens(losses.token_map_targets(uvd, 8)))
    assert (coordinates - uvd).abs().mean() < 0.03
