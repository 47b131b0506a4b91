# SPDX-License-Identifier: Apache-2.0
"""Patches out of the image and back into it (checks 4 and 5), and the frame (check 13)."""

from __future__ import annotations

import itertools

import cv2
from digitizer_people import person
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy import ndimage

from hmr_ros.perception.digitizer import frame
from hmr_ros.perception.digitizer.alignment import align, Alignment
from hmr_ros.perception.digitizer.frame import Frame
from hmr_ros.perception.digitizer.parts import PATCHES, RESOLUTIONS
from hmr_ros.perception.digitizer.patches import blend, blend_weights, cut_patches, sample
from hmr_ros.perception.errors import PerceptionError

SIDE = 512
#: of section 2, from a patch's edge at 2048.
PROFILE = (0, .0345, .0793, .1351, .2020, .2788, .3638, .4540, .5460, .6362, .7212, .7980, .8649,
           .9207, .9655, 1)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def alignment_at(side: int, *missing: int) -> Alignment:
    return align(person(*missing, side=side), side)


def smooth_field(side: int) -> np.ndarray:
    """Encoded normals `(6, side, side)` of a hill: the same smoothness at every resolution."""
    x, y = np.meshgrid(*2 * [(np.arange(side) + 0.5) / side])
    waves = [np.sin(7 * x + 3 * y), np.cos(5 * y - 2 * x), 1 + 0.2 * np.sin(6 * x * y)]
    unit = np.stack(waves) / np.linalg.norm(waves, axis=0)
    return np.concatenate([unit, -unit]).astype(np.float32) / 2 + np.float32(0.5)


# ---- check 4

@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-20, 20), st.floats(-20, 20))
@settings(max_examples=30, deadline=None)
def test_sampling_is_bilinear_with_nothing_outside(
        a: float, b: float, x: float, y: float) -> None:
    planes = noise(2, 13, 17)
    found = sample(planes, np.array([[a, -b, x], [b, a, y]]), 11, 9)
    for plane, ours in zip(planes, found):
        # scipy counts rows first.
        expected = ndimage.affine_transform(
            plane, [[a, b], [-b, a]], (y, x), (11, 9), order=1, mode='grid-constant')
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.torch
def test_a_patch_is_the_middle_of_the_whole_canvas_warped() -> None:
    """As the published program makes it, by torch."""
    torch = pytest.importorskip('torch', reason='the reference is of torch')
    planes, alignment = noise(3, SIDE, SIDE), alignment_at(SIDE)
    patches = cut_patches(planes, np.zeros((6, SIDE // 8, SIDE // 8), np.float32), alignment)
    counts = dict.fromkeys(PATCHES, 0)
    for placed in alignment.placed:
        inverse = np.linalg.inv(np.vstack([placed.similarity, [0, 0, 1]]))[:2]
        grid = torch.nn.functional.affine_grid(
            torch.from_numpy(inverse)[None], (1, 3, SIDE, SIDE), align_corners=False)
        canvas = torch.nn.functional.grid_sample(
            torch.from_numpy(planes)[None].double(), grid, align_corners=False)[0].numpy()
        height, width = placed.size
        top, left = (SIDE - height) // 2, (SIDE - width) // 2
        patch = patches[placed.part.patch][counts[placed.part.patch]]
        np.testing.assert_allclose(
            patch[:3], canvas[:, top:top + height, left:left + width], atol=1e-3)
        counts[placed.part.patch] += 1
    assert list(counts.values()) == [1, 1, 4, 4, 2]


def test_parts_see_the_normals_of_the_front_where_they_see_the_image() -> None:
    alignment, field = alignment_at(SIDE), smooth_field(SIDE)
    low = field[:, 3::8, 3::8]
    patches = cut_patches(field[:3], low, alignment)
    for batch in patches.values():
        covered = batch[:, :3].any(1)
        assert np.abs(batch[:, 3:] - batch[:, :3]).max(1)[covered].mean() < 0.02


def test_batches_keep_their_shape_without_some_parts() -> None:
    planes, low = noise(3, SIDE, SIDE) + 0.5, noise(6, SIDE // 8, SIDE // 8)
    some, every = (cut_patches(planes, low, alignment_at(SIDE, *missing)) for missing in ((7,), ()))
    assert not some['arm'][:2].any() and some['arm'][2:].any()
    np.testing.assert_array_equal(some['arm'][2:], every['arm'][2:])
    np.testing.assert_array_equal(some['leg'], every['leg'])
    assert {name: batch.shape for name, batch in some.items()} == {
        'head': (1, 6, 96, 80), 'torso': (1, 6, 136, 88), 'arm': (4, 6, 88, 56),
        'leg': (4, 6, 72, 64), 'foot': (2, 6, 48, 32)}


def patches_of(field: np.ndarray, alignment: Alignment) -> dict[str, np.ndarray]:
    """Cut all six planes, as networks that know the truth would give them."""
    low = np.zeros((6, *(side // 8 for side in field.shape[1:])), np.float32)
    halves = [cut_patches(half, low, alignment) for half in (field[:3], field[3:])]
    return {name: np.concatenate([half[name][:, :3] for half in halves], 1) for name in PATCHES}


# ---- check 5

@pytest.mark.parametrize('side', [SIDE, 1024])
def test_patches_of_the_truth_blend_to_the_truth(side: int) -> None:
    field, alignment = smooth_field(side), alignment_at(side)
    found = blend(patches_of(field, alignment), alignment)
    weights, error = blended_weights(alignment), np.abs(found - field)
    covered = error[:, weights > 1e-3]
    assert covered.size > side ** 2 / 2
    assert covered.mean() <= 1e-4 and np.quantile(covered, 0.99) <= 1e-3
    assert error[:, weights > 0.5].max() <= 5e-3


def blended_weights(alignment: Alignment) -> np.ndarray:
    """Greatest weight of any part at every pixel, by OpenCV."""
    side = alignment.resolution
    return np.max([cv2.warpAffine(
        blend_weights(placed.part.patch, side), placed.to_patch, (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) for placed in alignment.placed], 0)


def test_weights_add_up_to_one_where_anything_lies() -> None:
    alignment = alignment_at(SIDE)
    # Patches that are one everywhere show what all weights together are.
    ones = {name: np.ones_like(batch) for name, batch in
            patches_of(smooth_field(SIDE), alignment).items()}
    found, weights = blend(ones, alignment), blended_weights(alignment)
    np.testing.assert_allclose(found[:, found.any(0)], 1, atol=1e-6)
    assert found[:, weights > 1e-3].all()
    # OpenCV rounds places, so the outermost pixel is not compared.
    assert not found[:, ~ndimage.binary_dilation(weights > 0)].any()


def test_the_profile_of_the_sheet() -> None:
    weights = blend_weights('head', 2048)
    np.testing.assert_allclose(weights[184, :16], PROFILE, atol=1e-4)
    np.testing.assert_allclose(weights[:16, 160], PROFILE, atol=1e-4)


@pytest.mark.parametrize('side, name', itertools.product(RESOLUTIONS, ('arm', 'foot')))
def test_weights_are_a_blurred_box(side: int, name: str) -> None:
    inset, taps, sigma = {2048: (8, 15, 5), 1024: (4, 7, 2.5), 512: (2, 5, 1.25)}[side]
    weights = blend_weights(name, side)
    box = np.zeros(weights.shape)
    box[inset:-inset, inset:-inset] = 1
    expected = ndimage.gaussian_filter(box, sigma, mode='constant', radius=taps // 2)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_overlapping_parts_are_averaged_by_weight() -> None:
    alignment = alignment_at(SIDE)
    batches = {name: np.zeros_like(batch) for name, batch in
               patches_of(smooth_field(SIDE), alignment).items()}
    batches['torso'][:] = 1
    found = blend(batches, alignment)[0]
    alone = ndimage.binary_erosion(found > 1 - 1e-6)
    between = (found > 0.05) & (found < 0.95)
    assert alone.sum() > 1000 and between.sum() > 100 and found.max() <= 1 + 1e-6


# ---- check 13

def test_a_tall_image_is_padded_to_the_left_and_right() -> None:
    image = np.random.default_rng(0).integers(0, 255, (2048, 1540, 3), np.uint8)
    placing = Frame(2048, 1540, 2048)
    square = placing.square(image)
    assert placing.offset == (254, 0) and square.shape == (2048, 2048, 3)
    np.testing.assert_array_equal(square[:, 254:-254], image)
    np.testing.assert_array_equal(square[:, :254], np.repeat(image[:, :1], 254, 1))
    joints = person(7, 20)
    moved = placing.joints(joints)
    np.testing.assert_array_equal(moved.found, joints.found)
    np.testing.assert_array_equal(
        (moved.points - joints.points)[joints.found], np.tile([254, 0], (29, 1)))


def test_an_odd_pixel_goes_to_the_bottom() -> None:
    image = np.zeros((509, 512, 3), np.uint8)
    image[0], image[-1] = 50, 200
    square = Frame(509, 512, 512).square(image)
    assert square[:, 0, 0].tolist() == [50] * 2 + [0] * 507 + [200] * 3


def test_joints_keep_their_place_when_the_image_is_resized() -> None:
    image = np.zeros((600, 400, 3), np.uint8)
    image[300:306, 200:206] = 255
    placing = Frame(600, 400, 512)
    joints = person()
    joints.points[0] = 203, 303
    x, y = placing.joints(joints).points[0]
    rows, columns = np.nonzero(placing.square(image)[..., 0] > 127)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((x, y), abs=0.5)


def test_background_is_black() -> None:
    image, mask = np.full((3, 4, 3), 200, np.uint8), np.zeros((3, 4), bool)
    mask[1] = True
    assert np.unique(frame.without_background(image, mask)[[0, 2]]).tolist() == [0]
    assert (frame.without_background(image, mask)[1] == 200).all()
    with pytest.raises(PerceptionError, match=r'mask has shape \(4, 3\); expected \(3, 4\)'):
        frame.without_background(image, mask.T)


def brighter(image: np.ndarray) -> np.ndarray:
    return 0.85 * image


def less_saturated(image: np.ndarray) -> np.ndarray:
    return 0.85 * image + 0.15 * cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]


def less_contrast(image: np.ndarray) -> np.ndarray:
    return 0.85 * image + 0.15 * round(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean())


@pytest.mark.parametrize('order', itertools.permutations(
    [brighter, less_saturated, less_contrast]), ids=lambda order: order[0].__name__)
def test_colours_are_those_of_three_steps_in_any_order(order: tuple) -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    expected = image
    for step in order:
        expected = step(expected).clip(0, 255).astype(np.uint8)
    assert np.abs(frame.colours_of_training(image) - expected).max() <= 3


def test_planes_are_red_first_from_minus_one_to_one() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 1] = 255, 128, 0
    planes = frame.planes_of(image)
    assert planes.dtype == np.float32
    np.testing.assert_allclose(planes[:, 0, 1], [1, 1 / 255, -1], atol=1e-6)


def test_the_low_image_is_the_middle_of_every_eight_pixels() -> None:
    planes = noise(3, 64, 64)
    expected = np.mean([planes[:, row::8, column::8]
                        for row, column in itertools.product((3, 4), (3, 4))], 0)
    np.testing.assert_allclose(frame.low_resolution(planes), expected, atol=1e-6)


@pytest.mark.torch
def test_enlarging_is_torch_s_bilinear() -> None:
    torch = pytest.importorskip('torch', reason='the reference is of torch')
    planes = noise(3, 8, 8)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(planes)[None], scale_factor=8, mode='bilinear', align_corners=False)[0]
    np.testing.assert_allclose(frame.enlarged(planes), expected, atol=1e-5)
