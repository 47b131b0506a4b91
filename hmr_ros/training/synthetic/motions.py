# SPDX-License-Identifier: Apache-2.0
"""
Whole motions: what people do in front of robots and street cameras, at a random moment of it.

A motion is a function `(pose, rng, phase)` that overwrites the angles of a `Pose` of N people;
`phase` is `(N,)` in [0, 1). Legs come first, then for most motions a gesture of the arms.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hmr_ros.training.synthetic.poses import (
    AT_EASE, LIMITS, NAMES, Pose, SPREAD, limited, to_rotvecs)

Motion = Callable[[Pose, np.random.Generator, np.ndarray], None]


def _bump(phase: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Smooth bump of height 1 on the circle of phases."""
    distance = (phase - centre + 0.5) % 1.0 - 0.5
    return np.exp(-0.5 * (distance / width) ** 2)


def _between(rng: np.random.Generator, pose: Pose, low: float, high: float) -> np.ndarray:
    return rng.uniform(low, high, len(pose))


def walk(pose: Pose, rng: np.random.Generator, phase: np.ndarray) -> None:
    """Walking; phase 0 is the left heel strike."""
    stride, lively = _between(rng, pose, 0.55, 1.25), _between(rng, pose, 0.3, 1.3)
    bent = _between(rng, pose, 6, 30)
    for side, shift in (('l', 0.0), ('r', 0.5)):
        p = (phase + shift) % 1.0
        pose[f'hip_flex_{side}'] = 8 + stride * 22 * np.cos(2 * np.pi * p)
        pose[f'knee_{side}'] = 5 + stride * (14 * _bump(p, .14, .06) + 58 * _bump(p, .72, .09))
        pose[f'ankle_{side}'] = (
            8 * _bump(p, .42, .1) - stride * 20 * _bump(p, .63, .05) - 6 * _bump(p, .06, .04))
        pose[f'toe_{side}'] = 30 * stride * _bump(p, .58, .06)
        # The arm swings against the leg of its side.
        pose[f'arm_swing_{side}'] = 2 - lively * 22 * np.cos(2 * np.pi * p)
        pose[f'elbow_{side}'] = bent - lively * 8 * np.cos(2 * np.pi * p)
    pose['spine_twist'] = lively * 5 * np.cos(2 * np.pi * phase)
    pose['root_pitch'] = _between(rng, pose, -1, 7)


def run(pose: Pose, rng: np.random.Generator, phase: np.ndarray) -> None:
    """Running; phase 0 is the left thigh foremost."""
    stride, bent = _between(rng, pose, 0.7, 1.25), _between(rng, pose, 70, 110)
    for side, shift in (('l', 0.0), ('r', 0.5)):
        p = (phase + shift) % 1.0
        pose[f'hip_flex_{side}'] = 16 + stride * 38 * np.cos(2 * np.pi * p)
        pose[f'knee_{side}'] = 14 + stride * (88 * _bump(p, .74, .12) + 20 * _bump(p, .02, .1))
        pose[f'ankle_{side}'] = 8 - stride * 26 * _bump(p, .55, .09)
        pose[f'arm_swing_{side}'] = 4 - stride * 38 * np.cos(2 * np.pi * p)
        pose[f'elbow_{side}'] = bent - 12 * np.cos(2 * np.pi * p)
    pose['spine_twist'] = stride * 9 * np.cos(2 * np.pi * phase)
    pose['root_pitch'] = _between(rng, pose, 4, 16)


def stand(pose: Pose, rng: np.random.Generator, phase: np.ndarray) -> None:
    """Standing, the weight more on one leg or the other."""
    shift = np.sin(2 * np.pi * phase) * rng.random(len(pose))
    pose['root_roll'] = 5 * shift
    pose['spine_side'] = -6 * shift
    for side, sign in (('l', 1.0), ('r', -1.0)):
        idle = np.maximum(sign * shift, 0)
        pose[f'hip_flex_{side}'] = 1 + 22 * idle
        pose[f'knee_{side}'] = 3 + 36 * idle
        pose[f'hip_abduct_{side}'] = _between(rng, pose, 0, 11) - sign * 5 * shift
    pose['neck_flex'] = _between(rng, pose, -8, 30)
    pose.flatten_feet()


def sit(pose: Pose, rng: np.random.Generator, phase: np.ndarray) -> None:
    """Sitting on a chair, a bench or low; phase leans the back."""
    low = _between(rng, pose, -10, 25)
    lean = 14 * np.sin(2 * np.pi * phase)
    pose['root_pitch'] = lean - 8
    pose['spine_flex'] = _between(rng, pose, 0, 35)
    open_legs = _between(rng, pose, -4, 24)
    for side in 'lr':
        pose[f'hip_flex_{side}'] = 84 + low + lean + _between(rng, pose, -10, 12)
        pose[f'knee_{side}'] = 84 + low + _between(rng, pose, -30, 20)
        pose[f'hip_abduct_{side}'] = open_legs
        pose[f'ankle_{side}'] = _between(rng, pose, -15, 10)
        pose[f'arm_swing_{side}'] = _between(rng, pose, 5, 45)
        pose[f'elbow_{side}'] = _between(rng, pose, 20, 95)


def bend(pose: Pose, rng: np.random.Generator, phase: np.ndarray) -> None:
    """Bending down and coming up again; phase 0.5 is deepest."""
    depth = np.sin(np.pi * phase) * _between(rng, pose, 0.5, 1.0)
    pose['root_pitch'] = 62 * depth
    pose['spine_flex'] = 8 + 55 * depth
    knee = _between(rng, pose, 0, 70) * depth
    for side in 'lr':
        pose[f'hip_flex_{side}'] = 62 * depth + 0.55 * knee
        pose[f'knee_{side}'] = knee + 4
        pose[f'arm_swing_{side}'] = _between(rng, pose, 20, 100) * depth
        pose[f'elbow_{side}'] = _between(rng, pose, 5, 45)
    pose['neck_flex'] = _between(rng, pose, -40, 25)
    pose.flatten_feet()


def crouch(pose: Pose, rng: np.random.Generator, phase: np.ndarray) -> None:
    """Squatting or half kneeling; phase 0.5 is lowest."""
    depth = 0.35 + 0.65 * np.sin(np.pi * phase)
    pose['root_pitch'] = 26 * depth
    pose['spine_flex'] = _between(rng, pose, 5, 40)
    kneel = np.where(rng.random(len(pose)) < 0.4, _between(rng, pose, 30, 75), 0)
    for side, less in (('l', 0 * kneel), ('r', kneel)):
        pose[f'hip_flex_{side}'] = 112 * depth - less
        pose[f'knee_{side}'] = 128 * depth - 0.2 * less
        pose[f'hip_abduct_{side}'] = _between(rng, pose, 2, 26)
        pose[f'arm_swing_{side}'] = _between(rng, pose, 10, 80)
        pose[f'elbow_{side}'] = _between(rng, pose, 10, 100)
    pose.flatten_feet()


def turn(pose: Pose, rng: np.random.Generator, phase: np.ndarray) -> None:
    """Turning round: the head leads, the shoulders follow, the feet step."""
    walk(pose, rng, phase)
    way = np.where(rng.random(len(pose)) < 0.5, -1.0, 1.0)
    pose['neck_twist'] = way * _between(rng, pose, 10, 65)
    pose['spine_twist'] = way * _between(rng, pose, 5, 38)
    pose['hip_rotate_l'] = 8 + np.maximum(way, 0) * 22
    pose['hip_rotate_r'] = 8 + np.maximum(-way, 0) * 22


def fall(pose: Pose, rng: np.random.Generator, phase: np.ndarray) -> None:
    """From losing balance (phase 0) to lying on the belly, the back or a side (phase 1)."""
    walk(pose, rng, rng.random(len(pose)))
    way = rng.uniform(0, 2 * np.pi, len(pose))
    down = np.clip(1.35 * phase, 0, 1)
    pose['root_pitch'] = 92 * down * np.cos(way)
    pose['root_roll'] = 92 * down * np.sin(way)
    for side in 'lr':
        pose[f'hip_flex_{side}'] = _between(rng, pose, -10, 75) * down
        pose[f'knee_{side}'] = _between(rng, pose, 0, 95)
        pose[f'arm_swing_{side}'] = _between(rng, pose, -20, 150)
        pose[f'arm_lower_{side}'] = _between(rng, pose, 0, 90)
        pose[f'elbow_{side}'] = _between(rng, pose, 5, 110)


def tumble(pose: Pose, rng: np.random.Generator, phase: np.ndarray) -> None:
    """Draw any pose inside 60 % of the limits, for what no motion covers."""
    body = LIMITS[2:]
    reach = 0.6 * rng.uniform(0, 1, (len(pose), len(body)))
    goal = np.where(rng.random(reach.shape) < 0.5, body[:, 0], body[:, 1])
    pose.angles[:, 2:] = AT_EASE[2:] + reach * (goal - AT_EASE[2:])


def hang(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Leave the arms as the motion has them."""


def hold_phone(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Hold a thing in front of the chest or the face."""
    for side in sides:
        pose[f'arm_swing_{side}'] = _between(rng, pose, 15, 50)
        pose[f'arm_lower_{side}'] = _between(rng, pose, 72, 88)
        pose[f'arm_twist_{side}'] = _between(rng, pose, -5, 35)
        pose[f'elbow_{side}'] = _between(rng, pose, 75, 130)
    pose['neck_flex'] = _between(rng, pose, 5, 35)


def hand_to_head(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Bring the hand to an ear, the face or the hair."""
    for side in sides:
        pose[f'arm_swing_{side}'] = _between(rng, pose, 35, 95)
        pose[f'arm_lower_{side}'] = _between(rng, pose, 45, 85)
        pose[f'arm_twist_{side}'] = _between(rng, pose, -30, 25)
        pose[f'elbow_{side}'] = _between(rng, pose, 120, 146)


def on_hips(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Put the hands on the hips."""
    for side in sides:
        pose[f'arm_swing_{side}'] = _between(rng, pose, -35, -12)
        pose[f'arm_lower_{side}'] = _between(rng, pose, 42, 60)
        pose[f'arm_twist_{side}'] = _between(rng, pose, 45, 75)
        pose[f'elbow_{side}'] = _between(rng, pose, 78, 105)
        pose[f'wrist_flex_{side}'] = _between(rng, pose, -40, 20)


def in_pockets(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Put the hands into the pockets."""
    for side in sides:
        pose[f'arm_swing_{side}'] = _between(rng, pose, -22, -4)
        pose[f'arm_lower_{side}'] = _between(rng, pose, 64, 76)
        pose[f'arm_twist_{side}'] = _between(rng, pose, 20, 50)
        pose[f'elbow_{side}'] = _between(rng, pose, 25, 50)


def fold(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Fold the arms in front of the chest, or hold the hands together."""
    for side in 'lr':
        pose[f'arm_swing_{side}'] = _between(rng, pose, 12, 38)
        pose[f'arm_lower_{side}'] = _between(rng, pose, 70, 84)
        pose[f'arm_twist_{side}'] = _between(rng, pose, 50, 85)
        pose[f'elbow_{side}'] = _between(rng, pose, 85, 118)


def behind_back(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Put the hands behind the back."""
    for side in sides:
        pose[f'arm_swing_{side}'] = _between(rng, pose, -45, -22)
        pose[f'arm_lower_{side}'] = _between(rng, pose, 68, 84)
        pose[f'arm_twist_{side}'] = _between(rng, pose, 60, 90)
        pose[f'elbow_{side}'] = _between(rng, pose, 40, 85)


def reach(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Reach or point, from the knees to above the head."""
    for side in sides:
        pose[f'arm_swing_{side}'] = _between(rng, pose, 20, 150)
        pose[f'arm_lower_{side}'] = _between(rng, pose, 25, 95)
        pose[f'arm_twist_{side}'] = _between(rng, pose, -30, 40)
        pose[f'elbow_{side}'] = _between(rng, pose, 0, 45)
        pose[f'collar_raise_{side}'] = 0.1 * pose[f'arm_swing_{side}']
    pose['spine_flex'] = _between(rng, pose, -5, 30)


def wave(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Wave with a raised hand."""
    for side in sides:
        pose[f'arm_swing_{side}'] = _between(rng, pose, -10, 40)
        pose[f'arm_lower_{side}'] = _between(rng, pose, -45, 45)
        pose[f'arm_twist_{side}'] = _between(rng, pose, -88, -55)
        pose[f'elbow_{side}'] = _between(rng, pose, 30, 125)
        pose[f'collar_raise_{side}'] = _between(rng, pose, 4, 18)


def raise_arms(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Lift the arms to the sides or overhead."""
    for side in sides:
        pose[f'arm_swing_{side}'] = _between(rng, pose, -10, 30)
        pose[f'arm_lower_{side}'] = _between(rng, pose, -70, 30)
        pose[f'elbow_{side}'] = _between(rng, pose, 0, 80)
        pose[f'arm_twist_{side}'] = _between(rng, pose, -70, 20)
        pose[f'collar_raise_{side}'] = 10 - 0.2 * pose[f'arm_lower_{side}']


def carry(pose: Pose, rng: np.random.Generator, sides: str) -> None:
    """Carry something before the belly with both arms."""
    swing, elbow = _between(rng, pose, 5, 40), _between(rng, pose, 55, 100)
    pose.both('arm_swing', swing)
    pose.both('elbow', elbow)
    pose.both('arm_twist', _between(rng, pose, -5, 25))
    pose.both('forearm_twist', _between(rng, pose, 0, 70))


#: motion and its share of the people; pedestrians are what the cameras meet most.
MOTIONS: dict[str, tuple[Motion, float]] = {
    'walk': (walk, 0.30), 'stand': (stand, 0.32), 'run': (run, 0.06), 'sit': (sit, 0.10),
    'bend': (bend, 0.06), 'crouch': (crouch, 0.05), 'turn': (turn, 0.04), 'fall': (fall, 0.04),
    'tumble': (tumble, 0.03)}
#: arm gesture, its share, and whether it often takes both arms.
GESTURES = {
    'hang': (hang, 0.40, 1.0), 'hold_phone': (hold_phone, 0.10, 0.3),
    'hand_to_head': (hand_to_head, 0.05, 0.2), 'on_hips': (on_hips, 0.06, 0.6),
    'in_pockets': (in_pockets, 0.07, 0.7), 'fold': (fold, 0.06, 1.0),
    'behind_back': (behind_back, 0.03, 0.9), 'reach': (reach, 0.09, 0.3),
    'wave': (wave, 0.05, 0.1), 'raise_arms': (raise_arms, 0.04, 0.6), 'carry': (carry, 0.05, 1.0)}
OWN_ARMS = ('fall', 'tumble', 'run')


def _pick(rng: np.random.Generator, table: dict, count: int) -> np.ndarray:
    shares = np.float64([row[1] for row in table.values()])
    return rng.choice(np.array(list(table)), count, p=shares / shares.sum())


def gesture(pose: Pose, rng: np.random.Generator) -> None:
    """Overwrite arms of each person with a gesture of one arm or both."""
    names, draw = _pick(rng, GESTURES, len(pose)), rng.random(len(pose))
    for name, (function, _, both) in GESTURES.items():
        split = 0.5 + 0.5 * both
        for sides, low, high in (('lr', 0, both), ('l', both, split), ('r', split, 1)):
            rows = np.flatnonzero((names == name) & (draw >= low) & (draw < high))
            if len(rows):
                part = Pose(len(rows))
                part.angles = pose.angles[rows]
                function(part, rng, sides)
                pose.angles[rows] = part.angles


def sample_angles(
        rng: np.random.Generator, count: int,
        motions: tuple[str, ...] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """
    Draw poses of everyday motions.

    `motions` restricts the draw to some names of `MOTIONS`. Returns angles (count, A) in radians
    inside `LIMITS` and the motion's name of each (count,).
    """
    table = MOTIONS if motions is None else {name: MOTIONS[name] for name in motions}
    names = _pick(rng, table, count)
    angles = np.empty((count, len(NAMES)))
    for name, (function, _) in table.items():
        rows = np.flatnonzero(names == name)
        if not len(rows):
            continue
        pose = Pose(len(rows))
        function(pose, rng, rng.random(len(rows)))
        if name not in OWN_ARMS:
            gesture(pose, rng)
        angles[rows] = pose.angles
    return limited(angles + rng.normal(0, 1, angles.shape) * SPREAD), names


def sample_poses(
        rng: np.random.Generator, count: int,
        motions: tuple[str, ...] | None = None) -> np.ndarray:
    """Rotation vectors `(count, 24, 3)` float32 of `sample_angles`; heading not included."""
    return to_rotvecs(sample_angles(rng, count, motions)[0])


def moments(motion: Motion, rng: np.random.Generator, phases: np.ndarray) -> np.ndarray:
    """
    Angles `(T, A)` in radians of one person at the `phases` `(T,)` of a motion.

    The draws are the same at each of them: one stride, one gesture, one way to fall.
    """
    seed, poses = rng.integers(2 ** 32), [Pose(1) for _ in phases]
    for pose, phase in zip(poses, phases):
        motion(pose, np.random.default_rng(seed), np.float64([phase]))
    return np.concatenate([pose.angles for pose in poses])


def walk_cycle(count: int, frames_per_cycle: int, rng: np.random.Generator) -> np.ndarray:
    """Rotation vectors `(count, 24, 3)` of one person walking on, frame by frame."""
    phases = np.arange(count) / frames_per_cycle % 1.0
    return to_rotvecs(limited(moments(walk, rng, phases)))
