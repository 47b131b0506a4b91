# SPDX-License-Identifier: Apache-2.0
"""The twelve body parts: which joints go where in which patch (sheet, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
import math

#: sides of the square images that there are networks for.
RESOLUTIONS = (2048, 1024, 512)
#: targets and limits are in pixels of this one.
CANVAS = 2048
#: three halvings must leave whole pixels.
_STEP = 8
#: height and width of a patch in pixels of CANVAS, by the network that sees it.
PATCHES: dict[str, tuple[int, int]] = {
    'head': (368, 320), 'torso': (528, 336), 'arm': (352, 224), 'leg': (272, 256),
    'foot': (176, 128)}


def patch_size(patch: str, resolution: int) -> tuple[int, int]:
    """Height and width in pixels of a patch, of PATCHES, cut from an image of `resolution`."""
    height, width = (math.ceil(side * resolution / CANVAS / _STEP) * _STEP
                     for side in PATCHES[patch])
    return height, width


@dataclass(frozen=True)
class Anchor:
    """
    What is pulled to a place of the patch.

    target   x, y in pixels of CANVAS from the centre of the patch
    choices  groups of joints, of JOINTS: the mean of those that were found in the first group
             where any was
    """

    target: tuple[float, float]
    choices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Part:
    """
    One part of the body.

    patch    of PATCHES
    anchors  its joints
    needed   fewest anchors that must be found
    limits   pairs of anchors and how many pixels of CANVAS lie between them in the patch: the
             first pair that was found says how far targets shrink, so that nothing is magnified
    """

    name: str
    patch: str
    anchors: tuple[Anchor, ...]
    needed: int
    limits: tuple[tuple[int, int, float], ...] = ()


def _joint(target: tuple[float, float], *joints: int) -> Anchor:
    """Build an anchor of single joints, the later ones in place of the first."""
    return Anchor(target, tuple((joint,) for joint in joints))


def _head() -> Part:
    across, down = CANVAS / 24, CANVAS / 48
    # An eye stands for the ear of its side.
    return Part('head', 'head', (
        _joint((-across, down), 4, 2), _joint((across, down), 3, 1)), 2, ((0, 1, 2 * across),))


def _torso() -> Part:
    shoulder, hip, height = CANVAS / 18, CANVAS / 24, CANVAS / 12
    return Part('torso', 'torso', (
        _joint((-shoulder, -height), 6), _joint((shoulder, -height), 5),
        _joint((-hip, height), 12), _joint((hip, height), 11)), 3)


def _upper_arm(side: str, shoulder: int, elbow: int) -> Part:
    return Part(f'{side}_upper_arm', 'arm', (
        _joint((0, -192), shoulder), _joint((0, 64), elbow)), 2, ((0, 1, 256),))


def _lower_arm(side: str, elbow: int, wrist: int, fingers: tuple[int, ...]) -> Part:
    length, hand = CANVAS / 9, CANVAS / 36
    return Part(f'{side}_lower_arm', 'arm', (
        _joint((0, -length), elbow), _joint((0, 0), wrist), Anchor((0, hand), (fingers,))), 2,
        ((0, 2, length + hand), (0, 1, length)))


def _leg(name: str, across: float, ends: tuple[float, float], joints: tuple[int, int]) -> Part:
    return Part(name, 'leg', tuple(
        _joint((across, end), joint) for end, joint in zip(ends, joints)), 2,
        ((0, 1, ends[1] - ends[0]),))


def _foot(side: str, big_toe: int, small_toe: int, heel: int, ankle: int) -> Part:
    down = CANVAS / 48
    return Part(f'{side}_foot', 'foot', (
        _joint((0, down), big_toe, small_toe), _joint((0, down), small_toe, big_toe),
        _joint((0, -down), heel, ankle), _joint((0, -down), ankle, heel)), 4)


_THIGH, _SHIN = (-160, 96), (-144, 144)
#: in the order in which the patches of one network lie in its batch.
PARTS: tuple[Part, ...] = (
    _head(), _torso(),
    _upper_arm('left', 5, 7), _lower_arm('left', 7, 9, (23, 24, 25, 26)),
    _upper_arm('right', 6, 8), _lower_arm('right', 8, 10, (27, 28, 29, 30)),
    _leg('left_upper_leg', -24, _THIGH, (11, 13)), _leg('left_lower_leg', -24, _SHIN, (13, 15)),
    _leg('right_upper_leg', 24, _THIGH, (12, 14)), _leg('right_lower_leg', 24, _SHIN, (14, 16)),
    _foot('left', 17, 18, 19, 15), _foot('right', 20, 21, 22, 16))
