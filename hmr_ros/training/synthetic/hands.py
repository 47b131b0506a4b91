# SPDX-License-Identifier: Apache-2.0
"""
Hands: gestures as angles of finger joints, within their limits, and as rotations.

A hand is five fingers of four angles. Of a finger: spread away from the middle finger, and flexion
of its three joints. Of a thumb: turn across the palm, and flexion of its three joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.body.whole_body_joints import FINGERS

THUMB = FINGERS.index('thumb')
#: lowest and highest of the four angles, radians, `(5, 4, 2)`.
LIMITS = np.radians(np.float64([
    [(-12, 20), (-20, 92), (0, 105), (0, 75)] if finger != 'thumb' else
    [(-15, 50), (-12, 45), (-5, 55), (-12, 75)] for finger in FINGERS]))
#: flexion of the three joints when a finger is closed altogether, radians.
_CLOSED = np.radians([86.0, 100.0, 62.0])
#: the way each finger spreads, about the axis that rises from the back of the left hand.
_SPREAD_WAY = np.float64([{'index': -1, 'middle': 0, 'pinky': 1.3, 'ring': 0.6, 'thumb': 0}[f]
                          for f in FINGERS])


@dataclass(frozen=True)
class Gesture:
    """
    What a hand does and how often.

    fingers  how far index, middle, pinky and ring are closed, 0 to 1
    thumb    how far the thumb is; across: how far it lies across the palm, 0 to 1
    spread   of the fingers, degrees
    share    of the draw
    hook     1 when fingers close in their outer joints only
    """

    fingers: tuple[float, float, float, float]
    thumb: float
    across: float
    spread: float
    share: float
    hook: float = 0.0


GESTURES: dict[str, Gesture] = {
    'relaxed': Gesture((.20, .25, .34, .30), .10, .1, 2, .30),
    'flat': Gesture((.0, .0, .02, .0), .0, .0, 0, .09),
    'spread': Gesture((.0, .0, .05, .0), -.1, -.2, 15, .11),
    'fist': Gesture((.97, 1., 1., 1.), .4, .65, 0, .13),
    'point': Gesture((.02, .95, 1., 1.), .4, .7, 0, .08),
    'two': Gesture((.0, .0, .95, .92), .42, .8, 8, .04),
    'three': Gesture((.0, .0, .9, .05), .42, .8, 6, .02),
    'thumb up': Gesture((.97, 1., 1., 1.), -.1, -.3, 0, .05),
    'pinch': Gesture((.5, .35, .2, .3), .2, .5, 4, .05),
    'grip': Gesture((.52, .56, .62, .6), .35, .6, 0, .08),
    'hook': Gesture((.6, .65, .7, .68), .2, .2, 0, .03, hook=1.0),
    'horns': Gesture((.0, .95, .05, .95), .4, .7, 4, .02)}


def sample_hands(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw angles of hands `(count, 5, 4)` within `LIMITS`, radians."""
    names = list(GESTURES)
    shares = np.float64([GESTURES[name].share for name in names])
    ideal = np.stack([gesture_angles(GESTURES[name]) for name in names])
    angles = ideal[rng.choice(len(names), count, p=shares / shares.sum())]
    # Nobody makes a gesture altogether: many hands are on the way from one to another.
    other = ideal[rng.choice(len(names), count, p=shares / shares.sum())]
    way = np.where(rng.random(count) < 0.35, rng.uniform(0, 0.6, count), 0.0)
    angles = angles + way[:, None, None] * (other - angles)
    finger = rng.normal(0, 0.12, (count, 5, 1)) * [0.3, 1, 1.2, 0.8]
    angles = angles + finger + rng.normal(0, 0.05, angles.shape)
    return np.clip(angles, LIMITS[..., 0], LIMITS[..., 1])


def gesture_angles(gesture: Gesture) -> np.ndarray:
    """Angles `(5, 4)` of a gesture made altogether, radians."""
    angles = np.zeros((5, 4))
    closed = np.float64([*gesture.fingers, gesture.thumb])
    angles[:, 1:] = closed[:, None] * _CLOSED
    angles[:THUMB, 1] *= 1 - gesture.hook
    angles[:THUMB, 0] = np.radians(gesture.spread)
    angles[THUMB] = [np.radians(45) * gesture.across, *(gesture.thumb * np.radians([25, 45, 60]))]
    return angles


def hand_rotations(body: WholeBodyModel, angles: np.ndarray) -> np.ndarray:
    """
    Rotation vectors `(N, 15, 3)` of left hands with `angles` `(N, 5, 4)`, from straight fingers.

    Fingers bend about the axes of the body's mean hand.
    """
    mean = body.hands_mean[0].astype(np.float64)
    axes = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    flexion = angles[..., 1:].reshape(len(angles), 15, 1) * axes
    side = np.zeros((len(angles), 5, 3))
    side[..., 1] = angles[..., 0] * _SPREAD_WAY
    side[:, THUMB, 0] = angles[:, THUMB, 0]
    first = np.arange(5) * 3
    turn = (Rotation.from_rotvec(side.reshape(-1, 3))
            * Rotation.from_rotvec(flexion[:, first].reshape(-1, 3)))
    flexion[:, first] = turn.as_rotvec().reshape(-1, 5, 3)
    return flexion.astype(np.float32)


def sample_both_hands(
        body: WholeBodyModel, rng: np.random.Generator, count: int) -> np.ndarray:
    """
    Rotation vectors `(count, 30, 3)` of left and right hands relative to the body's mean hands.

    A third of the people hold both hands alike.
    """
    left, right = sample_hands(rng, count), sample_hands(rng, count)
    alike = rng.random(count) < 0.33
    right[alike] = left[alike]
    hands = np.concatenate(
        [hand_rotations(body, left), hand_rotations(body, right) * np.float32([1, -1, -1])], axis=1)
    return hands - body.hands_mean.reshape(-1, 3)
