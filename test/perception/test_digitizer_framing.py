# SPDX-License-Identifier: Apache-2.0
"""The square round a person, and where the body stands before the real camera."""

from __future__ import annotations

from digitizer_people import person
from digitizer_shapes import depths, ELLIPSOID, ellipsoid_hits
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.perception.camera import Camera
from hmr_ros.perception.digitizer.depth import focal_length
from hmr_ros.perception.digitizer.framing import box_of, frame_person, Framing
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.digitizer.placement import (
    height_of, place_at_distance, place_by_height, Placement)
from hmr_ros.perception.digitizer.surface import Surface, surface_of, to_world
from hmr_ros.perception.errors import PerceptionError

WIDTH, HEIGHT, SIDE = 640, 480, 512
HEAD, FEET = (0, 1, 2, 3, 4), tuple(range(15, 23))
SURFACE = surface_of(*depths(ellipsoid_hits(ELLIPSOID, 128)))


# ---- the square

@given(st.tuples(*[st.integers(-200, 600)] * 2), st.integers(20, 300), st.integers(20, 700))
@settings(deadline=None)
def test_the_person_fills_the_square_and_lies_in_its_middle(
        corner: tuple[int, int], width: int, height: int) -> None:
    box = np.array([*corner, corner[0] + width, corner[1] + height])
    if box[2] <= 0 or box[3] <= 0 or box[0] >= WIDTH or box[1] >= HEIGHT:
        with pytest.raises(PerceptionError, match='outside the image of 640x480'):
            frame_person(box, WIDTH, HEIGHT, SIDE)
        return
    framing = frame_person(box, WIDTH, HEIGHT, SIDE)
    assert max(width, height) / framing.side == pytest.approx(0.77, rel=0.03)
    np.testing.assert_allclose(framing.centre, (box[:2] + box[2:]) / 2, atol=0.51)


def test_the_image_s_border_goes_on() -> None:
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    framing = Framing((-100, -16), 512, WIDTH, HEIGHT, 512)
    square = framing.square(image)
    np.testing.assert_array_equal(square[16:-16, 100:], image[:, :412])
    np.testing.assert_array_equal(square[:, :100], np.repeat(square[:, 100:101], 100, 1))
    np.testing.assert_array_equal(square[:16], np.repeat(square[16:17], 16, 0))


def test_the_square_is_resized_with_its_mask_and_joints() -> None:
    image, mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), bool)
    image[200:210, 300:310], mask[200:210, 300:310] = 255, True
    framing = frame_person(np.array([250, 100, 350, 300]), WIDTH, HEIGHT, SIDE)
    square, inside = framing.square(image), framing.mask(mask)
    assert square.shape == (SIDE, SIDE, 3) and inside.shape == (SIDE, SIDE)
    points = np.full((31, 2), np.nan)
    points[5] = 305, 205
    moved = framing.joints(Joints(points))
    assert moved.found.sum() == 1
    for shown in (square[..., 0] > 127, inside):
        rows, columns = np.nonzero(shown)
        np.testing.assert_allclose(
            (columns.mean() + 0.5, rows.mean() + 0.5), moved.points[5], atol=0.6)


def test_joints_outside_the_image_are_missing() -> None:
    points = np.tile([100.0, 100.0], (31, 1))
    points[:4] = (-1, 50), (50, -1), (WIDTH, 50), (50, HEIGHT)
    framing = frame_person(np.array([0, 0, 200, 400]), WIDTH, HEIGHT, SIDE)
    assert framing.joints(Joints(points)).found.tolist() == [False] * 4 + [True] * 27


def test_another_image_than_the_framed_one_is_refused() -> None:
    framing = frame_person(np.array([0, 0, 200, 400]), WIDTH, HEIGHT, SIDE)
    with pytest.raises(PerceptionError, match='480x640 pixels; the square is one of 640x480'):
        framing.square(np.zeros((WIDTH, HEIGHT, 3), np.uint8))


@pytest.mark.parametrize('box', [(0, 0, 5, 9), (np.nan, 0, 100, 100), (50, 50, 10, 10)])
def test_boxes_of_nobody_are_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(PerceptionError, match='expected finite left, top, right, bottom'):
        frame_person(np.array(box), WIDTH, HEIGHT, SIDE)


@pytest.mark.parametrize('bottom', [4 * WIDTH, 1e6, 1e300])
def test_a_square_that_would_fill_the_memory_is_refused(bottom: float) -> None:
    with pytest.raises(PerceptionError, match='more than 2560 pixels.*640x480'):
        frame_person(np.array([100, 50, 300, bottom]), WIDTH, HEIGHT, SIDE)
    assert frame_person(np.array([100, 50, 300, 3 * WIDTH]), WIDTH, HEIGHT, SIDE).side < 4 * WIDTH


# ---- the box of joints

@pytest.mark.parametrize('missing', [(), HEAD, FEET, (*HEAD, *FEET), (*FEET, 13, 14)])
def test_joints_say_where_the_person_ends(missing: tuple[int, ...]) -> None:
    """Of the test vector the eyes are at 300, the toes at 1790 and the wrists 1290 and 760."""
    left, top, right, bottom = box_of(person(*missing))
    assert top == pytest.approx(200, abs=80) and bottom == pytest.approx(1805, abs=170)
    assert 1320 < right < 1420 and 630 < left < 730


def test_a_person_whose_feet_are_cut_off_is_framed_whole() -> None:
    joints = person()
    cut = Framing((0, 0), 1500, 2048, 1500, 2048).joints(joints)
    assert not cut.found[list(FEET)].any()
    joints = Joints(joints.points, cut.found)
    framing = frame_person(box_of(joints), 2048, 1500, SIDE)
    assert framing.corner[1] + framing.side > 1800
    assert framing.square(np.zeros((1500, 2048, 3), np.uint8)).shape == (SIDE, SIDE, 3)


def test_raised_hands_belong_to_the_box() -> None:
    joints = person()
    joints.points[23] = 1300, 20
    assert box_of(joints)[1] <= 20


@pytest.mark.parametrize('found', [(), (5, 6), (7, 9, 23, 24), FEET])
def test_joints_of_one_height_say_nothing(found: tuple[int, ...]) -> None:
    joints = person(*set(range(31)) - set(found))
    with pytest.raises(PerceptionError, match='Give the box of the whole person'):
        box_of(joints)


# ---- where the body stands

CAMERAS = st.builds(
    lambda focal, x, y: Camera(focal, focal, x, y, WIDTH, HEIGHT),
    st.floats(300, 900), st.floats(300, 340), st.floats(220, 260))
FRAMINGS = st.builds(
    lambda x, y, side: Framing((x, y), side, WIDTH, HEIGHT, SIDE),
    st.integers(-100, 500), st.integers(-50, 250), st.integers(60, 400))


@given(CAMERAS, FRAMINGS, st.floats(1, 20))
def test_the_middle_of_the_body_is_in_the_middle_of_the_square(
        camera: Camera, framing: Framing, distance_m: float) -> None:
    placement = place_at_distance(framing, camera, distance_m)
    middle = placement.points(np.array([0, 0, 1.0]))
    assert np.linalg.norm(middle) == pytest.approx(distance_m, rel=1e-5)
    np.testing.assert_allclose(camera.project(middle), framing.centre, atol=0.05)


@given(CAMERAS, FRAMINGS, st.floats(1, 20))
def test_it_is_turned_and_never_bent_or_mirrored(
        camera: Camera, framing: Framing, distance_m: float) -> None:
    turn = place_at_distance(framing, camera, distance_m).rotation
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


@given(st.floats(-150, 150), st.floats(-100, 100), st.floats(5, 15))
def test_what_a_distant_camera_sees_agrees_with_the_square(
        x: float, y: float, distance_m: float) -> None:
    """Pixels of the square that the networks saw, against the placed body in the whole image."""
    camera = Camera(600, 600, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    side = int(600 * 2.3 / distance_m)
    corner = np.rint((WIDTH / 2 + x - side / 2, HEIGHT / 2 + y - side / 2)).astype(int)
    framing = Framing((int(corner[0]), int(corner[1])), side, WIDTH, HEIGHT, SIDE)
    points = SURFACE.front[SURFACE.there]
    seen = points[:, :2] / points[:, 2:] * focal_length(framing.side) + framing.centre
    found = camera.project(place_at_distance(framing, camera, distance_m).points(points))
    # The virtual camera is near, so what is farther is drawn smaller than it really is.
    assert np.abs(found - seen).max() < 0.03 * side


@given(CAMERAS, FRAMINGS, st.floats(0.5, 2.5))
def test_height_and_distance_say_the_same(
        camera: Camera, framing: Framing, height_m: float) -> None:
    by_height = place_by_height(framing, camera, SURFACE, height_m)
    again = place_at_distance(framing, camera, by_height.distance_m)
    assert again.unit_m == pytest.approx(by_height.unit_m)
    points = by_height.points(np.concatenate([
        side[SURFACE.there] for side in (SURFACE.front, SURFACE.back)]))
    assert np.ptp(points @ by_height.rotation[:, 1]) == pytest.approx(height_m, rel=1e-3)


def test_someone_of_a_known_height_stands_where_geometry_puts_them() -> None:
    """1.8 m on 300 pixels of a camera of 600 pixels: 3.6 m away."""
    camera = Camera(600, 600, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    side = round(300 / 0.7 * 2 * np.tan(np.radians(25)))
    framing = Framing(
        ((WIDTH - side) // 2, (HEIGHT - side) // 2), side, WIDTH, HEIGHT, SIDE)
    placement = place_by_height(framing, camera, SURFACE, 1.8)
    assert height_of(SURFACE) == pytest.approx(0.7, rel=0.02)
    assert placement.distance_m == pytest.approx(3.6, rel=0.02)
    assert placement.unit_m == pytest.approx(1.8 / 0.7, rel=0.02)


def test_vertices_of_the_world_are_placed_as_their_points() -> None:
    placement = Placement(np.eye(3), 3.0, 2.5)
    points = np.random.default_rng(0).random((5, 3), np.float32)
    np.testing.assert_allclose(
        placement.vertices(to_world(points)), placement.points(points), atol=1e-6)


def test_what_cannot_be_placed_is_refused() -> None:
    framing = Framing((0, 0), 400, WIDTH, HEIGHT, SIDE)
    camera = Camera.from_fov(WIDTH, HEIGHT, 50)
    with pytest.raises(PerceptionError, match='distance_m is 0; expected metres above 0'):
        place_at_distance(framing, camera, 0)
    with pytest.raises(PerceptionError, match='height_m is nan'):
        place_by_height(framing, camera, SURFACE, float('nan'))
    with pytest.raises(PerceptionError, match='the camera takes 320x240 pixels'):
        place_at_distance(framing, camera.resized(320, 240), 2)
    empty = Surface(SURFACE.front, SURFACE.back, np.zeros_like(SURFACE.there))
    with pytest.raises(PerceptionError, match='the surface is empty'):
        place_by_height(framing, camera, empty, 1.8)
