# SPDX-License-Identifier: Apache-2.0
"""Body parts in the image: the sheet's test vector, missing joints and refusals (check 3)."""

from __future__ import annotations

from digitizer_people import person, PLACES, POINTS, SIDE
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.perception.digitizer.alignment import align, Alignment, fit_similarity, PlacedPart
from hmr_ros.perception.digitizer.joints import Joints, JOINTS
from hmr_ros.perception.digitizer.parts import PARTS, patch_size, PATCHES, RESOLUTIONS
from hmr_ros.perception.errors import PerceptionError

LEFT_FINGERS = (23, 24, 25, 26)


def placed_in(alignment: Alignment) -> dict[str, PlacedPart]:
    return {placed.part.name: placed for placed in alignment.placed}


def centre_of(placed: PlacedPart) -> np.ndarray:
    height, width = placed.size
    return placed.to_image @ ((width - 1) / 2, (height - 1) / 2, 1)


def test_the_test_vector_of_the_sheet() -> None:
    alignment = align(person(), SIDE)
    assert [placed.part.name for placed in alignment.placed] == list(PLACES)
    assert not alignment.dropped
    for placed in alignment.placed:
        a, b, tx, ty, *centre = PLACES[placed.part.name]
        np.testing.assert_allclose(
            placed.similarity, [[a, -b, tx], [b, a, ty]], atol=1e-5, err_msg=placed.part.name)
        np.testing.assert_allclose(centre_of(placed), centre, atol=0.05)


def test_patch_sizes_of_the_sheet() -> None:
    assert [[patch_size(name, side) for name in PATCHES] for side in RESOLUTIONS] == [
        [(368, 320), (528, 336), (352, 224), (272, 256), (176, 128)],
        [(184, 160), (264, 168), (176, 112), (136, 128), (88, 64)],
        [(96, 80), (136, 88), (88, 56), (72, 64), (48, 32)]]
    assert sum(np.prod(patch_size(part.patch, SIDE)) for part in PARTS) == 934_144


@pytest.mark.parametrize('side', RESOLUTIONS)
def test_parts_lie_alike_at_every_resolution(side: int) -> None:
    for placed in align(person(side=side), side).placed:
        a, b, tx, ty, *_ = PLACES[placed.part.name]
        np.testing.assert_allclose(placed.similarity, [[a, -b, tx], [b, a, ty]], atol=1e-5)


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(-1, 1), st.floats(-1, 1))
@settings(max_examples=30, deadline=None)
def test_a_similarity_is_found_again(
        angle: float, scale: float, tx: float, ty: float) -> None:
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    expected = np.array([[a, -b, tx], [b, a, ty]])
    points = np.array([[0.1, 0.2], [-0.3, 0.5], [0.7, -0.2]])
    targets = points @ expected[:, :2].T + expected[:, 2]
    np.testing.assert_allclose(fit_similarity(points, targets), expected, atol=1e-9)
    np.testing.assert_allclose(fit_similarity(points[:2], targets[:2]), expected, atol=1e-9)


@given(st.integers(0, 2 ** 32 - 1), st.floats(0.5, 1.5))
@settings(max_examples=20, deadline=None)
def test_parts_of_two_joints_shrink_but_never_grow(seed: int, size: float) -> None:
    moved = np.random.default_rng(seed).normal(0, 15, POINTS.shape)
    middle = SIDE / 2
    for placed in align(Joints((POINTS - middle) * size + middle + moved), SIDE).placed:
        scale = np.hypot(*placed.similarity[:, 0])
        if placed.part.limits and len(placed.part.anchors) == 2:
            first, second = (anchor.choices[0][0] for anchor in placed.part.anchors)
            length = np.hypot(*((POINTS[first] - POINTS[second]) * size
                                + moved[first] - moved[second]))
            assert scale == pytest.approx(min(1, placed.part.limits[0][2] / length))


@pytest.mark.parametrize('missing, dropped', [
    ((7,), {'left_upper_arm', 'left_lower_arm'}), ((5, 7), {'left_upper_arm', 'left_lower_arm'}),
    ((14,), {'right_upper_leg', 'right_lower_leg'}), ((9, *LEFT_FINGERS), {'left_lower_arm'}),
    ((1, 3), {'head'}), ((17, 18), {'left_foot'}), ((5, 6), {
        'torso', 'left_upper_arm', 'right_upper_arm'}),
    (range(31), {part.name for part in PARTS})], ids=str)
def test_parts_that_cannot_be_placed_are_dropped_with_a_reason(
        missing: tuple[int, ...], dropped: set[str]) -> None:
    alignment = align(person(*missing), SIDE)
    assert set(alignment.dropped) == dropped and all(alignment.dropped.values())
    for name, placed in placed_in(alignment).items():
        assert np.isfinite(placed.similarity).all()
        if name not in ('torso', 'left_foot'):
            np.testing.assert_allclose(placed.similarity[0, 0], PLACES[name][0], atol=1e-5)


def test_without_fingers_elbow_and_wrist_place_the_lower_arm() -> None:
    arm = placed_in(align(person(*LEFT_FINGERS), SIDE))['left_lower_arm']
    length = np.hypot(*(POINTS[7] - POINTS[9]))
    assert np.hypot(*arm.similarity[:, 0]) == pytest.approx(min(1, 2048 / 9 / length))
    seen = arm.similarity[:, :2] @ (2 * POINTS[9] / SIDE - 1) + arm.similarity[:, 2]
    np.testing.assert_allclose(seen, 0, atol=1e-9)


def test_the_fingers_that_were_found_are_averaged() -> None:
    some = placed_in(align(person(23, 24), SIDE))['left_lower_arm']
    points = POINTS.copy()
    points[[23, 24]] = points[[25, 26]]
    all_of_them = placed_in(align(Joints(points), SIDE))['left_lower_arm']
    np.testing.assert_allclose(some.similarity, all_of_them.similarity, atol=1e-12)


@pytest.mark.parametrize('missing, instead', [(17, 18), (18, 17), (19, 15), (20, 21), (22, 16)])
def test_joints_of_a_foot_stand_for_each_other(missing: int, instead: int) -> None:
    points = POINTS.copy()
    points[missing] = points[instead]
    name = 'left_foot' if missing < 20 else 'right_foot'
    found, expected = (placed_in(align(joints, SIDE))[name].similarity
                       for joints in (person(missing), Joints(points)))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    whole = placed_in(align(person(), SIDE))[name].similarity
    turned = np.degrees(np.arctan2(found[1, 0], found[0, 0]) - np.arctan2(whole[1, 0], whole[0, 0]))
    assert abs(turned) < 15, 'the foot is not turned over'


@pytest.mark.parametrize('missing', [(3,), (4,), (3, 4)])
def test_eyes_stand_for_ears(missing: tuple[int, ...]) -> None:
    points = POINTS.copy()
    for ear in missing:
        points[ear] = points[ear - 2]
    found, expected = (placed_in(align(joints, SIDE))['head'].similarity
                       for joints in (person(*missing), Joints(points)))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize('missing', [5, 6, 11, 12])
def test_three_joints_place_the_torso(missing: int) -> None:
    found = placed_in(align(person(missing), SIDE))['torso'].similarity
    assert np.hypot(*found[:, 0]) == pytest.approx(0.72, abs=0.1)
    assert abs(np.degrees(np.arctan2(found[1, 0], found[0, 0]))) < 5


def test_parts_outside_the_image_are_dropped() -> None:
    down = Joints(POINTS + (0, 350))
    alignment = align(down, SIDE)
    assert set(alignment.dropped) == {'left_foot', 'right_foot'}
    assert 'in the image' in alignment.dropped['left_foot']


@given(st.floats(-600, 600), st.floats(-300, 300))
@settings(max_examples=25, deadline=None)
def test_how_much_of_a_patch_is_inside(right: float, down: float) -> None:
    alignment = align(Joints(POINTS + (right, down)), SIDE)
    for placed in alignment.placed:
        height, width = placed.size
        v, u = np.mgrid[:height:4, :width:4]
        x, y = np.einsum('ij,jhw->ihw', placed.to_image, np.stack([u + 1.5, v + 1.5, u * 0 + 1.0]))
        counted = ((x > -0.5) & (x < SIDE - 0.5) & (y > -0.5) & (y < SIDE - 0.5)).mean()
        assert placed.inside == pytest.approx(counted, abs=0.02)


def test_somebody_seen_from_behind_is_refused() -> None:
    behind = Joints(POINTS * (-1, 1) + (SIDE, 0))
    with pytest.raises(PerceptionError, match='from behind or mirrored'):
        align(behind, SIDE)


@pytest.mark.parametrize('yaw, refused', [(0, False), (40, False), (50, False), (70, True)])
def test_somebody_who_turns_away_is_refused(yaw: float, refused: bool) -> None:
    """A torso of the patch's own shape, whose width is seen as its cosine."""
    points = POINTS.copy()
    points[[5, 6, 11, 12]] = [(1124, 500), (924, 500), (1099, 800), (949, 800)]
    points[:, 0] = SIDE / 2 + (points[:, 0] - SIDE / 2) * np.cos(np.radians(yaw))
    if refused:
        with pytest.raises(PerceptionError, match='from the side'):
            align(Joints(points), SIDE)
    else:
        assert align(Joints(points), SIDE).placed


def test_a_person_who_leans_is_not_refused() -> None:
    c, s = np.cos(np.radians(50)), np.sin(np.radians(50))
    leaning = (POINTS - SIDE / 2) @ np.array([[c, s], [-s, c]]) + SIDE / 2
    torso = placed_in(align(Joints(leaning), SIDE))['torso'].similarity
    assert np.hypot(*torso[:, 0]) == pytest.approx(PLACES['torso'][0], abs=1e-4)


# ---- joints

def test_joints_of_openpose() -> None:
    body = np.stack([np.arange(25), np.arange(25) + 100, np.ones(25)], 1)
    hands = [np.stack([np.arange(21) + start, np.arange(21), np.ones(21)], 1)
             for start in (200, 300)]
    body[18] = 0
    joints = Joints.from_openpose(body, *hands)
    assert joints.points[[0, 1, 5, 15, 22], 0].tolist() == [0, 16, 5, 14, 24]
    assert joints.points[23:, 0].tolist() == [206, 210, 214, 218, 306, 310, 314, 318]
    assert [JOINTS[number] for number in np.flatnonzero(~joints.found)] == ['left_ear']


def test_joints_of_coco_whole_body() -> None:
    keypoints = np.stack([np.arange(133), np.zeros(133), np.arange(133) != 5], 1)
    joints = Joints.from_whole_body(keypoints)
    assert joints.points[:, 0].tolist() == [
        *range(23), 96, 100, 104, 108, 117, 121, 125, 129]
    assert np.flatnonzero(~joints.found).tolist() == [5]


def test_joints_that_are_none_are_refused() -> None:
    with pytest.raises(PerceptionError, match=r'shape \(30, 2\)'):
        Joints(np.zeros((30, 2)))
    with pytest.raises(PerceptionError, match=r'BODY_25 have shape \(18, 3\); expected \(25, 3\)'):
        Joints.from_openpose(np.zeros((18, 3)), np.zeros((21, 3)), np.zeros((21, 3)))
    assert not Joints(np.full((31, 2), np.nan)).found.any()
