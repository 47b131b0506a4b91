# SPDX-License-Identifier: Apache-2.0
"""One-Euro filters: still things stand still, moving ones are followed, and pi is no place."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmr_ros.perception import one_euro
from hmr_ros.perception.one_euro import OneEuroSettings, ROTATIONS, VECTORS
from hmr_ros.perception.rotations import axis_angle_to_quaternion, quaternion_to_axis_angle

FILTER = OneEuroSettings(min_cutoff_hz=0.4, speed_weight=0.7, speed_cutoff_hz=1.0)
FRAME_S = 1 / 30


def follow(values, space, times=None, given=FILTER):
    """Return the smoothed values of a series; `times` in seconds, 30 Hz when left out."""
    times = np.arange(len(values)) * FRAME_S if times is None else times
    state, found = one_euro.begin(values[0], space), []
    found.append(state.smoothed)
    for value, step in zip(values[1:], np.diff(times)):
        state = one_euro.advance(state, value, step, given, space)
        found.append(state.smoothed)
    return np.array(found)


def angle(first, second):
    """Angles between quaternions (w, x, y, z), by scipy."""
    one, other = (Rotation.from_quat(np.roll(q, -1, -1)) for q in (first, second))
    return (one.inv() * other).magnitude()


def turning(rate, frames, axis=(0.6, 0.0, 0.8), start=0.0):
    """Quaternions of a steady turn of `rate` rad/s."""
    angles = start + rate * FRAME_S * np.arange(frames)
    return np.roll(Rotation.from_rotvec(angles[:, None] * np.float64(axis)).as_quat(), 1, -1)


@settings(deadline=None, max_examples=50)
@given(
    vector=st.lists(st.floats(-1.75, 1.75, width=32), min_size=3, max_size=3),
    steps=st.lists(st.floats(1e-3, 0.5), min_size=1, max_size=12))
def test_what_stands_still_comes_out_as_it_came_in(vector, steps):
    vector, times = np.float32(vector), np.cumsum([0, *steps])
    turns = np.repeat(axis_angle_to_quaternion(vector.astype(np.float64))[None], len(times), 0)
    for smoothed in follow(turns, ROTATIONS, times):
        # A quaternion's length is rounded, at most to the last bit of float32.
        np.testing.assert_allclose(
            quaternion_to_axis_angle(smoothed).astype(np.float32), vector, rtol=2e-7, atol=1e-12)
    np.testing.assert_array_equal(
        follow(np.repeat(vector[None], len(times), 0), VECTORS, times)[-1], vector)


def test_a_still_body_with_noise_gets_steadier():
    rng = np.random.default_rng(0)
    noise = Rotation.from_rotvec(rng.normal(0, 0.05, (300, 3)))
    turns = np.roll((Rotation.from_rotvec([3.0, 0.5, 0]) * noise).as_quat(), 1, -1)
    smoothed = follow(turns, ROTATIONS)
    shaking = [angle(series[100:-1], series[101:]).mean() for series in (turns, smoothed)]
    assert shaking[1] < 0.2 * shaking[0]
    places = rng.normal(0, 0.03, (300, 3)) + (1, 2, 5)
    assert follow(places, VECTORS)[100:].std() < places[100:].std()
    steps = [np.abs(np.diff(series[100:], axis=0)).mean()
             for series in (places, follow(places, VECTORS))]
    assert steps[1] < 0.2 * steps[0]


@pytest.mark.parametrize('rate', [0.3, 2.0, 9.0])
def test_a_steady_motion_is_followed_with_the_lag_of_a_first_order_low_pass(rate):
    expected = rate / (2 * np.pi * (FILTER.min_cutoff_hz + FILTER.speed_weight * rate))
    turns = turning(rate, 600)
    lags = angle(follow(turns, ROTATIONS), turns)
    assert lags[-1] == pytest.approx(expected, rel=1e-3)
    assert lags.max() < 2 * expected, 'also while the speed is still being learned'
    places = np.arange(600)[:, None] * FRAME_S * rate * np.array([[0.6, 0, 0.8]])
    assert np.linalg.norm(follow(places, VECTORS) - places, axis=1)[-1] == pytest.approx(
        expected, rel=1e-3)


@settings(deadline=None, max_examples=40)
@given(
    rate=st.floats(-8, 8), start=st.floats(-4, 4),
    direction=st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(
        lambda v: np.linalg.norm(v) > 0.1))
def test_a_turn_through_pi_does_not_jump(rate, start, direction):
    axis = np.float64(direction) / np.linalg.norm(direction)
    turns = turning(rate, 90, axis, start)
    # As a message carries it: axis-angle, whose sign flips where the angle passes pi.
    vectors = quaternion_to_axis_angle(turns)
    smoothed = follow(axis_angle_to_quaternion(vectors), ROTATIONS)
    assert angle(smoothed[:-1], smoothed[1:]).max() < 1.5 * abs(rate) * FRAME_S + 1e-6
    np.testing.assert_allclose(np.linalg.norm(smoothed, axis=-1), 1, atol=1e-12)


def test_half_the_frames_give_the_same_motion():
    times = np.arange(0, 6, FRAME_S)
    places = np.stack([np.sin(times), np.cos(times), times], axis=1)
    every = follow(places, VECTORS, times)
    dropped = follow(places[::2], VECTORS, times[::2])
    assert np.abs(dropped - every[::2]).max() < 0.03, 'time is counted in seconds, not in frames'
