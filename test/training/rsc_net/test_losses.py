# SPDX-License-Identifier: Apache-2.0
"""Losses, queue, schedule and resolutions of the image network's training (sheet check 11)."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.networks.rsc_net import Body  # noqa: E402
from hmr_ros.training.kinematics import RestSkeleton  # noqa: E402
from hmr_ros.training.rsc_net.contrast import ProjectionQueue, TEMPERATURE  # noqa: E402
from hmr_ros.training.rsc_net.data import fitted_translation  # noqa: E402
from hmr_ros.training.rsc_net.losses import (  # noqa: E402
    basic_terms, decode, pair_weight, self_supervision)
from hmr_ros.training.rsc_net.ranges import degraded, DRAWN, versions  # noqa: E402
from hmr_ros.training.rsc_net.schedule import at_once, progressive  # noqa: E402

pytestmark = pytest.mark.torch
FOCAL = 5000 / 112


def bodies(seed: int, count: int = 3) -> Body:
    torch.manual_seed(seed)
    cam = torch.rand(count, 3) * 0.1 + torch.tensor([0.8, 0.0, 0.0])
    return Body(torch.randn(count, 144).requires_grad_(), torch.randn(count, 10), cam)


def test_only_lower_resolutions_learn_from_higher_ones() -> None:
    for high in range(5):
        for low in range(5):
            expected = (low - high) / 5 if low > high else 0
            assert pair_weight(high, low, 5) == pytest.approx(expected)


def test_no_gradient_reaches_the_higher_resolution() -> None:
    high, low = bodies(0), bodies(1)
    self_supervision(decode(high), decode(low)).backward()
    assert high.pose6d.grad is None and low.pose6d.grad.abs().sum() > 0


def test_contrast_is_cross_entropy_over_positive_and_negatives() -> None:
    torch.manual_seed(0)
    queue, samples = ProjectionQueue(32, 8), torch.arange(4)
    queue.push(torch.randn(20, 8), torch.arange(20))
    low = torch.randn(4, 8).requires_grad_()
    high = torch.randn(4, 8).requires_grad_()
    loss = queue.loss(low, high, samples)
    rows = []
    for i in range(4):
        cosine = torch.nn.functional.cosine_similarity
        others = [j for j in range(20) if j != i]
        logits = torch.cat([cosine(low[i], high[i], dim=0)[None],
                            cosine(low[i][None], queue.projections[others])]) / TEMPERATURE
        rows.append(-logits.log_softmax(0)[0])
    assert loss.item() == pytest.approx(torch.stack(rows).mean().item(), abs=1e-5)
    loss.backward()
    assert high.grad is None and low.grad.abs().sum() > 0


def test_random_features_cost_the_logarithm_of_the_queue() -> None:
    torch.manual_seed(0)
    queue = ProjectionQueue(2048, 256)
    queue.push(torch.randn(2048, 256), torch.full((2048,), 7))
    loss = queue.loss(torch.randn(64, 256), torch.randn(64, 256), torch.arange(64) + 100)
    # Cosines of random vectors spread by 1 / 16, over a temperature of a tenth.
    assert loss.item() == pytest.approx(math.log(2049), abs=0.5)


def test_queue_drops_the_oldest() -> None:
    queue = ProjectionQueue(4, 2)
    for first in (0, 3):
        queue.push(torch.randn(3, 2), torch.arange(first, first + 3))
    assert queue.samples.tolist() == [4, 5, 2, 3]
    norms = queue.projections.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(4))


def test_schedule_of_the_sheet() -> None:
    schedule = progressive(6400)
    assert [stage.last - stage.first for stage in schedule.stages] == [100, 200, 300, 640]
    assert [(stage.rows, stage.batch) for stage in schedule.stages] == [
        (2, 32), (3, 16), (4, 10), (5, 10)]
    assert schedule.stage(0).rows == 2 and schedule.stage(99).rows == 2
    assert schedule.stage(100).rows == 3 and schedule.stage(1239).rows == 5
    assert (schedule.ramp(0), schedule.ramp(500), schedule.ramp(1000)) == (0, 0.5, 1)
    assert schedule.ramp(999) < 1
    assert [list(schedule.entering(step)) for step in (0, 1, 100, 101, 300, 600, 900)] == [
        [1], [], [2], [], [3], [4], []]
    assert at_once(6400, 5).steps == schedule.steps
    assert list(at_once(6400, 5).entering(0)) == [1, 2, 3, 4]


def test_the_truth_costs_nothing() -> None:
    body, rng = load_body(), np.random.default_rng(3)
    found = bodies(2)
    decoded = decode(Body(found.pose6d.detach(), found.betas, found.cam))
    joints, _ = body.pose_joints(decoded.rotmats.numpy(), decoded.betas.numpy())
    placed = joints + decoded.transl.numpy()[:, None]
    batch = {
        'rotmats': decoded.rotmats, 'betas': decoded.betas, 'transl': decoded.transl,
        'joints3d': torch.from_numpy(joints + rng.normal(size=3).astype(np.float32)),
        'joints2d': torch.from_numpy(FOCAL * placed[..., :2] / placed[..., 2:]),
        'confidence': torch.ones(3, 24)}
    terms = basic_terms(decoded, RestSkeleton(body), batch)
    for name, value in terms.items():
        assert value.item() < (1e-6 if name != 'positive' else 1e-3), name


def test_place_is_recovered_from_projections() -> None:
    rng = np.random.default_rng(0)
    joints = rng.normal(0, 0.4, (24, 3))
    transl = np.array([0.1, -0.2, 48.0])
    placed = joints + transl
    found = fitted_translation(joints, FOCAL * placed[:, :2] / placed[:, 2:])
    np.testing.assert_allclose(found, transl, rtol=1e-5)


def test_degraded_as_pillow_degrades() -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    expected = Image.fromarray(image).resize((52, 52), Image.BICUBIC)
    expected = np.asarray(expected.resize((224, 224), Image.BICUBIC))
    difference = np.abs(degraded(image, 52).astype(int) - expected)
    assert difference.max() <= 2 and difference.mean() < 0.02
    assert degraded(image, 224) is image


def test_versions_lose_detail_row_by_row() -> None:
    image = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    found = versions(image, 5, np.random.default_rng(2))
    assert found.shape == (5, 224, 224, 3) and found.dtype == np.uint8
    alike = [np.corrcoef(one[:, 1:, 0].ravel(), one[:, :-1, 0].ravel())[0, 1] for one in found]
    assert sorted(alike) == alike and alike[0] < 0.1 < 0.9 < alike[4]
    np.testing.assert_array_equal(found, versions(image, 5, np.random.default_rng(2)))


def test_ranges_meet_the_rows_of_the_live_path() -> None:
    from hmr_ros.perception.rsc_net import rows_of
    for row, (fewest, most) in enumerate(DRAWN):
        np.testing.assert_array_equal(rows_of(np.array([fewest, most])), [row, row])
