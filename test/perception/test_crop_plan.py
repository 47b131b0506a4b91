# SPDX-License-Identifier: Apache-2.0
"""Crops sampled as planned, in numpy, are those that OpenCV cuts."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.perception.crop_plan import plan_crops
from hmr_ros.perception.crops import CropTransform, cut_crops, MOST_FINER

#: a batch of grey levels.
LEVELS = ((0, 0, 0), (1 / 255, 1 / 255, 1 / 255))


def sampled(image, plan, index):
    """Return one crop of a plan, float (3, size, size), by weights of 1/32 at the four corners."""
    height, width = image.shape[:2]
    padded = np.pad(image.reshape(height, width, -1).astype(int), ((1, 1), (1, 1), (0, 0)))
    count = plan.size * plan.finer[index]
    (x, y), total = plan.positions[index, :, :count], 0
    for dy in (0, 1):
        for dx in (0, 1):
            rows, columns = np.clip(y // 32 + dy + 1, 0, height + 1), np.clip(
                x // 32 + dx + 1, 0, width + 1)
            weight = np.outer(*((part if far else 32 - part) for part, far in (
                (y % 32, dy), (x % 32, dx))))
            total = total + weight[..., None] * padded[np.ix_(rows, columns)]
    samples = np.floor(total / 1024 + 0.5).reshape(
        plan.size, plan.finer[index], plan.size, plan.finer[index], -1)
    return np.moveaxis(samples.mean(axis=(1, 3)), 2, 0)[list(plan.channels)]


@settings(deadline=None, max_examples=150)
@given(
    color_order=st.sampled_from(['rgb', 'bgr', 'gray']), size=st.sampled_from([8, 33, 128]),
    width=st.integers(3, 200), height=st.integers(3, 200), scale=st.one_of(
        st.floats(0.05, 7), st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0])),
    center=st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3)), seed=st.integers(0, 999))
def test_positions_are_those_of_opencv(color_order, size, width, height, scale, center, seed):
    """Black and white noise: a sample 1/32 pixel away would be off by 8 grey levels."""
    shape = (height, width) if color_order == 'gray' else (height, width, 3)
    image = 255 * np.random.default_rng(seed).integers(0, 2, shape).astype(np.uint8)
    transform = CropTransform(center[0] * width, center[1] * height, scale * size, size)
    expected = cut_crops(image, color_order, [transform], size, *LEVELS)
    plan = plan_crops(color_order, [transform], size, *LEVELS)
    assert np.abs(sampled(image, plan, 0) - expected[0]).max() <= 0.5


def test_plans_of_several_crops_and_their_parts():
    sides = [20.0, 65.0, 200.0, 130.0]
    transforms = [CropTransform(50, 60, side, 32) for side in sides]
    plan = plan_crops('bgr', transforms, 32, *LEVELS)
    assert plan.finer.tolist() == [1, 2, MOST_FINER, 4] and len(plan) == 4
    assert plan.positions.shape == (4, 2, 32 * MOST_FINER) and plan.channels == (2, 1, 0)
    assert np.all(plan.positions[0, :, 31:] == plan.positions[0, :, 31:32])
    assert np.all(np.diff(plan.positions, axis=2) >= 0)
    part = plan.part(slice(1, 3))
    assert len(part) == 2 and np.array_equal(part.positions, plan.positions[1:3])
    alone = plan_crops('bgr', transforms[1:2], 32, *LEVELS)
    assert np.array_equal(alone.positions[0], plan.positions[1, :, :64])
    assert plan.levels[0] == pytest.approx(np.arange(256))


def test_nobody_is_an_empty_plan():
    plan = plan_crops('gray', [], 16, *LEVELS)
    assert len(plan) == 0 and plan.positions.shape == (0, 2, 16)
    assert plan.positions.dtype == plan.finer.dtype == np.int32
