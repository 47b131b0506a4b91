# SPDX-License-Identifier: Apache-2.0
"""Meshes cover what they should, near hides far, and odd input draws nothing instead of failing."""

import numpy as np
import pytest

from hmr_ros.perception.camera import Camera
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.overlay import draw_keypoints, OverlayRenderer, OverlayStyle, track_color
from hmr_ros.perception.person import PersonKeypoints

CAMERA = Camera(300.0, 300.0, 160.0, 120.0, 320, 240)
PLAIN = OverlayStyle(opacity=1.0, skeleton=0, label=0, box=0)
JOINTS = np.full((24, 2), np.nan, np.float32)
BOX = np.float32([10, 20, 60, 90])


def ball(center, radius, rings=24):
    """Return vertices and outward counter-clockwise faces of a sphere."""
    polar = np.linspace(1e-3, np.pi - 1e-3, rings)
    turn = np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    grid = np.stack(np.broadcast_arrays(
        np.sin(polar)[:, None] * np.cos(turn), np.cos(polar)[:, None],
        np.sin(polar)[:, None] * np.sin(turn)), axis=-1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(2 * rings), indexing='ij')
    a, b = i * 2 * rings + j, i * 2 * rings + (j + 1) % (2 * rings)
    c, d = a + 2 * rings, b + 2 * rings
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3),
                            np.stack([b, d, c], -1).reshape(-1, 3)])
    return (grid * radius + center).astype(np.float32), faces


def draw(vertices, ids, image=None, style=PLAIN, camera=CAMERA):
    _, faces = ball((0, 0, 0), 1)
    image = np.zeros((240, 320, 3), np.uint8) if image is None else image
    count = len(ids)
    return OverlayRenderer(faces, style).draw(
        image, camera, vertices, ids, np.tile(JOINTS, (count, 1, 1)), np.tile(BOX, (count, 1)))


@pytest.mark.parametrize('center, radius', [((0, 0, 4), 1), ((0.3, -0.2, 8), 1), ((1, .5, 3), .4)])
def test_silhouette_is_the_projected_sphere_without_holes(center, radius):
    vertices, _ = ball(center, radius)
    covered = draw(vertices[None], ['p1']).max(axis=2) > 0
    y, x = np.mgrid[:240, :320]
    rays = np.stack([(x + 0.5 - 160) / 300, (y + 0.5 - 120) / 300, np.ones((240, 320))], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    distance = np.linalg.norm(np.cross(rays, np.float64(center)), axis=-1)
    front = np.linalg.norm(center)
    assert covered[distance < 0.95 * radius - 1.0 * front / 300].all()
    assert not covered[distance > radius + 2.0 * front / 300].any()


def test_near_is_drawn_over_far_whatever_the_order():
    near, far = ball((0, 0, 4), 0.5)[0], ball((0.2, 0, 6), 1.5)[0]
    first = draw(np.stack([near, far]), ['p1', 'p2'])
    second = draw(np.stack([far, near]), ['p2', 'p1'])
    np.testing.assert_array_equal(first, second)
    pixel = first[120, 160].astype(float)
    color = np.array(track_color('p1'), float)
    assert np.linalg.norm(pixel / np.linalg.norm(pixel) - color / np.linalg.norm(color)) < 0.05


def test_translucent_and_input_untouched():
    image = np.full((240, 320, 3), 128, np.uint8)
    vertices, _ = ball((0, 0, 4), 1)
    drawn = draw(vertices[None], ['p1'], image, OverlayStyle(0.5, 0, 0, 0))
    assert np.all(image == 128) and np.all(drawn[0, 0] == 128)
    assert np.all(drawn[120, 160] >= 64) and np.any(drawn[120, 160] != 128)


def test_odd_people_leave_the_image_whole():
    odd = [ball(center, 1)[0] for center in ((0, 0, -4), (50, 0, 4), (0, 0, 0.2))]
    odd.append(np.full_like(odd[0], np.nan))
    drawn = draw(np.stack(odd), ['p1', 'p2', 'p3', 'p4'])
    assert drawn.shape == (240, 320, 3)
    alone = draw(np.stack([odd[0], odd[1], odd[3]]), ['p1', 'p2', 'p4'])
    assert not alone.any()
    nobody = draw(np.zeros((0, len(odd[0]), 3)), [])
    assert not nobody.any()


def test_marks_and_labels():
    vertices, faces = ball((0, 0, 4), 1)
    joints = np.tile(np.float32([[100, 100]]), (1, 24, 1))
    joints[0, 1] = (140, 100)
    joints[0, 7] = np.nan
    drawn = OverlayRenderer(faces, OverlayStyle(0.0, 3, 12, 2)).draw(
        np.zeros((240, 320, 3), np.uint8), CAMERA, vertices[None], ['p7'], joints, BOX[None])
    assert drawn[100, 120].any() and drawn[20, 40].any() and drawn[2:18, 8:40].any()


def test_image_of_another_kind_and_another_resolution():
    vertices, _ = ball((0, 0, 4), 1)
    with pytest.raises(PerceptionError, match='uint8'):
        draw(vertices[None], ['p1'], np.zeros((240, 320), np.uint8))
    large = draw(vertices[None], ['p1'], np.zeros((480, 640, 3), np.uint8))
    assert large[240, 320].any() and not large[120, 160].any()


def test_colours_are_stable_and_apart():
    colors = [track_color(f'p{i}') for i in range(1, 7)]
    assert colors == [track_color(f'p{i}') for i in range(1, 7)]
    gaps = [np.abs(np.subtract(a, b)).sum() for i, a in enumerate(colors) for b in colors[:i]]
    assert min(gaps) > 40


def person_at(points):
    return PersonKeypoints('p3', 0.9, BOX, np.float32(points), np.ones(len(points), np.float32))


def test_keypoints_are_dots_and_limbs_in_the_colour_of_the_track():
    image = np.zeros((60, 80, 3), np.uint8)
    drawn = draw_keypoints(image, [person_at([(10, 20), (50, 20), (30, 50)])], [(0, 1)])
    assert not image.any(), 'the image that was given stays'
    color = np.array(track_color('p3'))
    for x, y in ((10, 20), (50, 20), (30, 50), (30, 20)):
        assert np.abs(drawn[y, x].astype(int) - color).max() < 30, (x, y)
    assert not drawn[35, 40].any(), 'no limb that was not asked for'


@pytest.mark.parametrize('unknown', [np.nan, np.inf, 1e9])
def test_keypoints_that_were_not_found_are_left_out_with_their_limbs(unknown):
    image = np.zeros((60, 80, 3), np.uint8)
    points = [(10, 20), (unknown, unknown), (60, 20)]
    drawn = draw_keypoints(image, [person_at(points)], [(0, 1), (1, 2)])
    assert drawn[20, 10].any() and drawn[20, 60].any()
    drawn[15:26, 5:16] = drawn[15:26, 55:66] = 0
    assert not drawn.any()


def test_keypoints_outside_and_nobody_leave_the_image_whole():
    image = np.full((60, 80, 3), 9, np.uint8)
    np.testing.assert_array_equal(draw_keypoints(image, [], [(0, 1)]), image)
    far = person_at([(-500, -500), (9000, -400)])
    np.testing.assert_array_equal(draw_keypoints(image, [far], [(0, 1)]), image)
    with pytest.raises(PerceptionError, match='uint8'):
        draw_keypoints(image[..., 0], [], [])
