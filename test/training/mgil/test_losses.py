# SPDX-License-Identifier: Apache-2.0
"""Targets and loss of keypoints as classifications: sheet mgil, section 3 and check 8."""

from __future__ import annotations

import math

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')

from hmr_ros.training.mgil.losses import simcc_loss  # noqa: E402
from hmr_ros.training.mgil.targets import gaussian_targets, smoothed_targets  # noqa: E402

pytestmark = pytest.mark.torch
JOINTS, SIZE, RATIO = 17, 64, 3
BINS = (RATIO * SIZE, RATIO * SIZE)


def at_zero_logits(smoothing: float, form: str, size: int = SIZE, visible: float = 1) -> float:
    bins = (RATIO * size, RATIO * size)
    points = torch.rand(5, JOINTS, 2) * (size - 1)
    targets = smoothed_targets(
        points, torch.full((5, JOINTS), visible), bins, RATIO, smoothing)
    return float(simcc_loss(*(torch.zeros(5, JOINTS, count) for count in bins), targets, form))


@pytest.mark.parametrize('smoothing, form, size, value', [
    (0.1, 'sum', 64, 149.8443), (0.2, 'sum', 64, 126.0257), (0.1, 'sum', 32, 128.6518),
    (0.1, 'mean', 64, 0.0459082), (0.2, 'mean', 64, 0.0386108)])
def test_loss_at_zero_logits(smoothing: float, form: str, size: int, value: float) -> None:
    """Check 8, whatever the keypoints."""
    assert at_zero_logits(smoothing, form, size) == pytest.approx(value, rel=1e-6)


def test_hidden_keypoints_cost_nothing() -> None:
    """Check 8."""
    assert at_zero_logits(0.1, 'sum', visible=0) == at_zero_logits(0.1, 'mean', visible=0) == 0


@settings(deadline=None)
@given(st.integers(0, 2 ** 32 - 1), st.sampled_from(['sum', 'mean']))
def test_loss_against_the_definition(seed: int, form: str) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, 3, 4, 12)).astype(np.float32)
    points, visible = rng.uniform(0, 3.6, (3, 4, 2)), rng.integers(0, 2, (3, 4))
    targets = smoothed_targets(
        torch.from_numpy(points), torch.from_numpy(visible), (12, 12), 3, 0.3)
    total = 0.0
    for axis in range(2):
        for person in range(3):
            for joint in range(4):
                t = np.full(12, 0.3 / 11)
                t[min(11, round(3 * points[person, joint, axis]))] = 0.7
                p = np.exp(logits[axis, person, joint].astype(np.float64))
                total += visible[person, joint] * np.sum(t * np.log(t * p.sum() / p))
    expected = total / 3 if form == 'sum' else total / (3 * 4 * 12)
    x, y = torch.from_numpy(logits)
    assert float(simcc_loss(x, y, targets, form)) == pytest.approx(expected, rel=1e-4)


def test_perfect_logits_cost_nothing_and_others_more() -> None:
    targets = smoothed_targets(torch.rand(2, JOINTS, 2) * 60, torch.ones(2, JOINTS), BINS, RATIO)
    logits = (targets.x.log().requires_grad_(), targets.y.log().requires_grad_())
    loss = simcc_loss(*logits, targets)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-3)
    loss.backward()
    for value in logits:
        assert value.grad.abs().max() < 1e-6
    assert simcc_loss(logits[0].roll(1, -1), logits[1], targets) > 10


def test_targets_with_label_smoothing() -> None:
    points = torch.tensor([[[10.1, 0.0], [63.7, 63.9], [-0.3, 5.0], [4.0, 64.0]]])
    targets = smoothed_targets(points, torch.ones(1, 4), BINS, RATIO, 0.1)
    assert targets.x.argmax(-1).tolist() == [[30, 191, 0, 12]]
    assert targets.y.argmax(-1).tolist() == [[0, 191, 15, 191]], 'clamped'
    # 63.9 is nearest to bin 192, which there is not.
    assert targets.weight.tolist() == [[1, 0, 0, 0]]
    torch.testing.assert_close(targets.x.sum(-1), torch.ones(1, 4))
    torch.testing.assert_close(targets.x.max(-1).values, torch.full((1, 4), 0.9))
    torch.testing.assert_close(targets.x.min(-1).values, torch.full((1, 4), 0.1 / 191))


def test_gaussian_targets() -> None:
    points = torch.tensor([[[10.15, 20.0]]], dtype=torch.float64)
    targets = gaussian_targets(points, torch.ones(1, 1), BINS, RATIO, 4.0)
    for i in (0, 25, 30, 31, 191):
        density = math.exp(-(i - 30.45) ** 2 / 32) / (4 * math.sqrt(2 * math.pi))
        assert float(targets.x[0, 0, i]) == pytest.approx(density, rel=1e-9)
    assert float(targets.y.sum()) == pytest.approx(1, abs=1e-6)
    assert float(simcc_loss(torch.zeros(1, 1, 192), torch.zeros(1, 1, 192), targets)) > 1


@pytest.mark.parametrize('make', [
    lambda *a: smoothed_targets(*a, BINS, RATIO), lambda *a: gaussian_targets(*a, BINS, RATIO, 4)])
def test_unknown_places_do_no_harm(make: object) -> None:
    """What nobody labelled may be NaN; the loss of the others stays what it was."""
    points = torch.rand(2, 3, 2) * 60
    points[0, 1] = torch.nan
    visible = torch.ones(2, 3)
    visible[0, 1] = 0
    targets = make(points, visible)
    logits = torch.randn(2, 3, 192, requires_grad=True)
    loss = simcc_loss(logits, logits, targets)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert not logits.grad[0, 1].any() and logits.grad[0, 0].any()
