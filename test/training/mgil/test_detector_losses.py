# SPDX-License-Identifier: Apache-2.0
"""Targets and losses of the person detector."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='losses need torch')
from hmr_ros.networks.mgil.detector import ANCHORS, STRIDES  # noqa: E402
from hmr_ros.training.mgil.detector.losses import ciou, detector_loss, OF_SIDE  # noqa: E402
from hmr_ros.training.mgil.detector.targets import cells, detector_targets  # noqa: E402

pytestmark = pytest.mark.torch
SHAPE = (2, 128, 160)
BOXES = torch.tensor([[20.0, 30, 36, 75], [60, 20, 110, 120], [4, 3, 14, 30], [100, 4, 120, 60]])
ROWS = torch.tensor([0, 0, 1, 1])
NOBODY = torch.zeros(len(BOXES), dtype=torch.bool)


def slow_ciou(first: np.ndarray, second: np.ndarray) -> float:
    """Of two boxes x0, y0, x1, y1, side by side as the paper writes it."""
    wide = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    tall = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    overlap = wide * tall / (sum(areas) - wide * tall)
    centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (first, second)]
    frame = math.hypot(max(first[2], second[2]) - min(first[0], second[0]),
                       max(first[3], second[3]) - min(first[1], second[1]))
    angles = [math.atan2(box[2] - box[0], box[3] - box[1]) for box in (first, second)]
    aspect = 4 / math.pi ** 2 * (angles[1] - angles[0]) ** 2
    share = aspect / (1 - overlap + aspect) if aspect else 0.0
    return overlap - (math.dist(*centres) / frame) ** 2 - share * aspect


def centred(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)


def test_ciou_equals_the_slow_one() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (2, 300, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 60, (2, 300, 2))], axis=2)
    found = ciou(*(centred(torch.from_numpy(part)) for part in boxes))
    expected = [slow_ciou(first, second) for first, second in zip(*boxes)]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert min(expected) < -0.3 and max(expected) > 0.5


def test_ciou_is_best_for_the_box_itself_and_pulls_towards_it() -> None:
    box = torch.tensor([[50.0, 40, 20, 50]])
    torch.testing.assert_close(ciou(box, box), torch.ones(1))
    apart = torch.tensor([[120.0, 90, 5, 9]], requires_grad=True)
    adam = torch.optim.Adam([apart], 1.0)
    for _ in range(200):
        adam.zero_grad()
        (-ciou(apart, box).sum()).backward()
        adam.step()
    assert ciou(apart, box) > 0.8


def asked(boxes: torch.Tensor, ignored: torch.Tensor, rows: torch.Tensor) -> list[set]:
    """Places and boxes of the targets of each stride."""
    return [{(*place, *box) for place, box in zip(
        torch.stack(level.places, 1).tolist(), level.boxes.round(decimals=3).tolist())}
        for level in detector_targets(boxes, ignored, rows, SHAPE)]


def test_targets_can_be_decoded_and_fit_their_anchors() -> None:
    """Centres lie within half a cell of their cell, sizes within four anchors."""
    levels = detector_targets(BOXES, NOBODY, ROWS, SHAPE)
    assert all(len(level.boxes) for level in levels)
    for level, stride, anchors in zip(levels, STRIDES, ANCHORS):
        place = level.boxes[:, :2] / stride - torch.stack([level.column, level.row], 1)
        assert (place > -0.5).all() and (place < 1.5).all()
        ratio = level.boxes[:, 2:] / torch.tensor(anchors)[level.anchor]
        assert (ratio < 4).all() and (ratio > 0.25).all()
        assert (level.row < SHAPE[1] // stride).all() and (level.column >= 0).all()
        assert (level.weight == 1).all()


def test_a_box_has_its_cell_and_the_two_nearest() -> None:
    column, row, index = cells(torch.tensor([[3.2, 5.9], [0.1, 0.3], [9.9, 7.8]]), 8, 10)
    found = [sorted(zip(column[index == i].tolist(), row[index == i].tolist())) for i in range(3)]
    assert found == [[(2, 5), (3, 5), (3, 6)], [(0, 0)], [(9, 7)]]


def test_every_fitting_anchor_is_asked_and_no_other() -> None:
    for level, anchors in zip(detector_targets(BOXES, NOBODY, ROWS, SHAPE), ANCHORS):
        expected = set()
        for row, (x0, y0, x1, y1) in zip(ROWS.tolist(), BOXES.tolist()):
            for a, (wide, tall) in enumerate(anchors):
                ratios = ((x1 - x0) / wide, (y1 - y0) / tall)
                if max(*ratios, *(1 / ratio for ratio in ratios)) < 4:
                    expected.add((row, a, x1 - x0, y1 - y0))
        found = {(picture, anchor, *box[2:]) for picture, anchor, box in zip(
            level.picture.tolist(), level.anchor.tolist(), level.boxes.tolist())}
        assert found == expected


def test_targets_follow_order_shift_and_mirror() -> None:
    plain = asked(BOXES, NOBODY, ROWS)
    order = torch.tensor([2, 0, 3, 1])
    assert asked(BOXES[order], NOBODY, ROWS[order]) == plain
    shifted = asked(BOXES + torch.tensor([32.0, 0, 32, 0]), NOBODY, ROWS)
    inner = [{(p, a, r, c + 32 // s, x + 32, y, w, h) for p, a, r, c, x, y, w, h in level}
             for level, s in zip(plain, STRIDES)]
    # At the left border a shift uncovers a neighbour that was outside.
    assert all(level <= other for level, other in zip(inner, shifted))
    turned = asked(BOXES[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1])
                   + torch.tensor([160.0, 0, 160, 0]), NOBODY, ROWS)
    assert turned == [{(p, a, r, 160 // s - 1 - c, 160 - x, y, w, h)
                       for p, a, r, c, x, y, w, h in level} for level, s in zip(plain, STRIDES)]


def test_nothing_is_asked_where_people_are_ignored() -> None:
    ignored = torch.tensor([True, False, False, False])
    levels = detector_targets(BOXES, ignored, ROWS, SHAPE)
    for level, stride in zip(levels, STRIDES):
        assert not (level.boxes[:, 2] == 16).any()
        assert (level.weight[1] == 1).all()
        rows, columns = torch.meshgrid(
            *((torch.arange(size // stride) + 0.5) * stride for size in SHAPE[1:]), indexing='ij')
        middle = (columns >= 20) & (columns <= 36) & (rows >= 30) & (rows <= 75)
        off = level.weight[0] == 0
        # Not where somebody else is asked for.
        off[level.anchor[level.picture == 0], level.row[level.picture == 0],
            level.column[level.picture == 0]] = False
        assert off.any() or stride == 32
        if stride < 32:
            assert (off.any(0) <= middle).all()
    others = detector_targets(BOXES[1:], NOBODY[1:], ROWS[1:], SHAPE)
    for level, other in zip(levels, others):
        torch.testing.assert_close(level.boxes, other.boxes)


def perfect(levels: tuple, seed: int | None = None, objectness: float = 9.0) -> list:
    """Raw maps that decode to what is asked, disturbed by the draw `seed` where given."""
    generator = torch.Generator().manual_seed(seed or 0)
    maps = []
    for level, stride, anchors in zip(levels, STRIDES, ANCHORS):
        raw = torch.zeros(SHAPE[0], 3, SHAPE[1] // stride, SHAPE[2] // stride, 6,
                          dtype=torch.float64)
        raw[..., 4] = -objectness
        cell = torch.stack([level.column, level.row], 1)
        place = (level.boxes[:, :2] / stride - cell + 0.5) / 2
        size = (level.boxes[:, 2:] / torch.tensor(anchors)[level.anchor]).sqrt() / 2
        numbers = torch.cat([torch.logit(place), torch.logit(size)], 1).double()
        if seed is not None:
            numbers += 0.5 * torch.randn(numbers.shape, generator=generator)
        raw[level.places] = torch.cat(
            [numbers, torch.full((len(cell), 2), objectness)], 1).double()
        maps.append(raw.permute(0, 1, 4, 2, 3).flatten(1, 2))
    return maps


def test_a_perfect_prediction_costs_least() -> None:
    # People whom no cell is asked for twice.
    levels = detector_targets(BOXES, NOBODY, ROWS, SHAPE)
    best = detector_loss(perfect(levels), levels)
    assert best.boxes < 1e-3 and best.objectness < 0.01
    for seed in range(8):
        assert detector_loss(perfect(levels, seed), levels).total > best.total + 1e-3
    for objectness in (-2.0, 0.0, 2.0, 5.0):
        assert detector_loss(perfect(levels, None, objectness), levels).total > best.total
    rng = torch.Generator().manual_seed(1)
    for _ in range(8):
        other = [m + torch.randn(m.shape, generator=rng) for m in perfect(levels)]
        assert detector_loss(other, levels).total > best.total


def test_empty_scenes_cost_what_is_seen_in_them() -> None:
    nobody = torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.long)
    levels = detector_targets(*nobody, SHAPE)
    maps = [torch.zeros(2, 18, 128 // s, 160 // s, requires_grad=True) for s in STRIDES]
    loss = detector_loss(maps, levels)
    loss.total.backward()
    share = 128 * 160 / OF_SIDE ** 2
    assert loss.boxes == 0
    assert loss.objectness.item() == pytest.approx(5.4 * math.log(2) * share, rel=1e-5)
    assert all(torch.isfinite(m.grad).all() for m in maps)
    assert (maps[0].grad.reshape(2, 3, 6, -1)[:, :, 4] > 0).all()


def test_ignored_people_are_no_negatives() -> None:
    """Seeing them costs nothing, and not seeing them neither."""
    levels = detector_targets(BOXES[:1], torch.ones(1, dtype=torch.bool), ROWS[:1], SHAPE)
    costs = []
    for objectness in (-9.0, 9.0):
        maps = [torch.full((2, 3, 6, 128 // s, 160 // s), -9.0) for s in STRIDES]
        maps[0][0, :, 4, 5:8, 3] = objectness
        costs.append(detector_loss([m.flatten(1, 2) for m in maps], levels).total)
    torch.testing.assert_close(*costs)
