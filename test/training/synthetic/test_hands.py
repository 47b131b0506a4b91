# SPDX-License-Identifier: Apache-2.0
"""Gestures of hands and expressions of faces: within limits, and what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from hmr_ros.body import load_whole_body
from hmr_ros.body.whole_body_joints import FINGERS
from hmr_ros.training.synthetic.expressions import (
    MIRROR, sample_expressions, sample_jaws, WIDEST)
from hmr_ros.training.synthetic.hands import (
    gesture_angles, GESTURES, hand_rotations, LIMITS, sample_both_hands, sample_hands)

WHOLE = load_whole_body()
#: order of the finger tips among the named vertices, from joint 66 on.
TIPS = ('thumb', 'index', 'middle', 'ring', 'pinky')


def left_hand(name: str) -> np.ndarray:
    """Joints `(144, 3)` of the mean person whose left hand makes a gesture."""
    pose, zero = np.zeros((1, 53, 3), np.float32), np.zeros((1, 10), np.float32)
    made = hand_rotations(WHOLE, gesture_angles(GESTURES[name])[None])
    pose[:, 22:37] = made - WHOLE.hands_mean[0]
    return WHOLE.posed(pose, zero, zero, zero[:, :3])[1][0]


def reach(joints: np.ndarray, finger: str) -> float:
    """Distance of a finger tip from the wrist, metres."""
    return float(np.linalg.norm(joints[66 + TIPS.index(finger)] - joints[20]))


@pytest.mark.parametrize('name, straight', [
    ('flat', ('index', 'middle', 'ring', 'pinky')), ('fist', ()), ('point', ('index',)),
    ('two', ('index', 'middle')), ('horns', ('index', 'pinky'))])
def test_gestures_stretch_the_fingers_they_are_made_of(name: str, straight: tuple) -> None:
    flat, made = left_hand('flat'), left_hand(name)
    for finger in ('index', 'middle', 'ring', 'pinky'):
        share = reach(made, finger) / reach(flat, finger)
        assert share > 0.93 if finger in straight else share < 0.75, finger


def test_spread_hands_are_wider_and_pinches_close() -> None:
    def width(joints: np.ndarray) -> float:
        return float(np.linalg.norm(joints[67] - joints[70]))
    assert width(left_hand('spread')) > width(left_hand('flat')) + 0.02
    pinch = left_hand('pinch')
    assert np.linalg.norm(pinch[66] - pinch[67]) < 0.02


def test_thumb_closes_over_a_fist_and_sticks_out_of_a_thumb_up() -> None:
    """The knuckles run from the pinky (31) to the index (25), which is at the front, z up."""
    fist, up = left_hand('fist'), left_hand('thumb up')
    assert fist[31, 2] < fist[66, 2] < fist[25, 2] + 0.01
    assert up[66, 2] > up[25, 2] + 0.03
    folded = fist[[26, 27, 29, 30]].mean(axis=0)
    assert fist[66, 1] < folded[1] and np.linalg.norm(fist[66] - folded) < 0.055


def test_hands_stay_within_their_limits_and_differ() -> None:
    angles = sample_hands(np.random.default_rng(1), 400)
    assert (angles >= LIMITS[..., 0] - 1e-9).all() and (angles <= LIMITS[..., 1] + 1e-9).all()
    index = angles[:, FINGERS.index('index'), 2]
    assert (index < 0.4).mean() > 0.25 and (index > 1.3).mean() > 0.1
    both = sample_both_hands(WHOLE, np.random.default_rng(2), 300)
    mirrored = both[:, 15:] * np.float32([1, -1, -1])
    alike = np.isclose(both[:, :15], mirrored, atol=1e-6).all(axis=(1, 2)).mean()
    assert 0.2 < alike < 0.5


def test_faces_are_often_neutral_and_mouths_often_shut() -> None:
    rng = np.random.default_rng(3)
    jaws, faces = sample_jaws(rng, 1000), sample_expressions(rng, 1000)
    assert jaws[:, 0].min() >= 0 and jaws[:, 0].max() <= WIDEST
    assert 0.4 < (jaws[:, 0] < 0.04).mean() < 0.6 and (jaws[:, 0] > 0.2).mean() > 0.1
    assert np.abs(faces).max() <= 2.0
    assert 0.15 < (np.abs(faces[:, [0, 3]]).max(axis=1) < 0.3).mean() < 0.5
    left, right = 0.5 * (faces[:, 4] + faces[:, 9]), 0.5 * (faces[:, 4] - faces[:, 9])
    assert ((left >= -0.11) & (left <= 1.01) & (right >= -0.11) & (right <= 1.01)).all()
    np.testing.assert_array_equal(MIRROR, [1] * 7 + [-1] * 3)
