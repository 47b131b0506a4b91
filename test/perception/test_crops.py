# SPDX-License-Identifier: Apache-2.0
"""Crops follow the affine map of the sheet, normalise as told and never raise on a bad box."""

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.perception import crops
from hmr_ros.perception.errors import PerceptionError

MEAN, STD = (0.406, 0.457, 0.480), (0.225, 0.224, 0.229)
NUMBER = st.one_of(
    st.floats(-3000, 3000), st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0]))


def picture(seed=0, width=160, height=120):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3)


def test_crop_equals_bilinear_sampling_of_the_sheet_formula():
    image, box, size = picture(), np.float32([90, 20, 130, 110]), 64
    transform = crops.CropTransform.from_box(box, size)
    assert transform.side == pytest.approx(1.25 * 90)
    crop = crops.crop_person(image, 'rgb', transform)
    inside = 0
    for x_crop, y_crop in [(10, 12), (32, 32), (40, 9), (63, 63), (0, 30)]:
        x = (x_crop - size / 2) * transform.side / size + 110
        y = (y_crop - size / 2) * transform.side / size + 65
        if not (0 <= x < 159 and 0 <= y < 119):
            assert np.all(crop[y_crop, x_crop] == 0)
            continue
        inside += 1
        x0, y0 = int(x), int(y)
        row = image[y0:y0 + 2, x0:x0 + 2].astype(float)
        weight = np.outer([1 - (y - y0), y - y0], [1 - (x - x0), x - x0])[..., None]
        # OpenCV rounds the sampling position to 1/32 pixel.
        assert np.abs(np.sum(row * weight, axis=(0, 1)) - crop[y_crop, x_crop]).max() < 4
    assert inside >= 3


@pytest.mark.parametrize('finer', [2, 3, 4])
def test_large_crops_are_averages(finer):
    """Against the box filter of OpenCV, on a window that lies on whole pixels."""
    image, size = picture(3, 400, 400), 32
    side = finer * size
    transform = crops.CropTransform(100 + side / 2, 60 + side / 2, side, size)
    window = image[60 - finer:60 + side + finer, 100 - finer:100 + side + finer].astype(np.float32)
    # Crop pixel x is centred on image pixel 100 + finer * x: its mean reaches to both sides of it.
    expected = np.empty((size, size, 3))
    for y in range(size):
        for x in range(size):
            low = -0.5 * (finer - 1)
            spots = low + np.arange(finer)
            rows, columns = (finer + finer * c + spots for c in (y, x))
            expected[y, x] = _bilinear(window, rows, columns).mean(axis=(0, 1))
    assert np.abs(crops.crop_person(image, 'rgb', transform) - expected).max() < 2


def _bilinear(image, rows, columns):
    low_r, low_c = np.floor(rows).astype(int), np.floor(columns).astype(int)
    r, c = (rows - low_r)[:, None, None], (columns - low_c)[None, :, None]
    upper, lower = (
        (1 - c) * image[np.ix_(low_r + down, low_c)] + c * image[np.ix_(low_r + down, low_c + 1)]
        for down in (0, 1))
    return (1 - r) * upper + r * lower


def test_thin_stripes_do_not_alias():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::4] = 255
    stripes[:, 1::4] = 255
    crop = crops.crop_person(stripes, 'rgb', crops.CropTransform(200, 200, 300, 75))
    assert np.ptp(crop[10:-10, 10:-10].astype(int)) <= 4 and abs(crop.mean() - 127) < 8


def plainly(image, color_order, transform, mean, std):
    """Cut and normalise one crop step by step, a picture for each."""
    finer = min(crops.MOST_FINER, max(1, int(transform.side / transform.size)))
    matrix = finer * transform.matrix.astype(np.float64)
    matrix[:, 2] += 0.5 * (finer - 1)
    size = (transform.size, transform.size)
    crop = cv2.warpAffine(
        image, matrix, (finer * size[0], finer * size[1]), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    if finer > 1:
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    if color_order != 'rgb':
        crop = cv2.cvtColor(crop, {
            'bgr': cv2.COLOR_BGR2RGB, 'gray': cv2.COLOR_GRAY2RGB}[color_order])
    return ((crop / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1)


@settings(deadline=None, max_examples=60)
@given(
    color_order=st.sampled_from(['rgb', 'bgr', 'gray']), size=st.sampled_from([8, 33, 64]),
    seed=st.integers(0, 2**32 - 1))
def test_batches_are_bit_by_bit_those_of_one_step_after_the_other(color_order, size, seed):
    rng = np.random.default_rng(seed)
    shape = (90, 120) if color_order == 'gray' else (90, 120, 3)
    # Every other column, so that images with gaps between their pixels are seen too.
    image = rng.integers(0, 256, (shape[0], 2 * shape[1], *shape[2:]), dtype=np.uint8)[:, ::2]
    transforms = [
        crops.CropTransform(*rng.uniform(-20, 140, 2), side, size)
        for side in size * rng.uniform(0.1, 6, 3)]
    batch = crops.cut_crops(image, color_order, transforms, size, MEAN, STD)
    for row, transform in zip(batch, transforms):
        np.testing.assert_array_equal(row, plainly(image, color_order, transform, MEAN, STD))


def test_channels_and_constants():
    image = np.full((50, 50, 3), (10, 100, 200), np.uint8)
    box = np.array([[10, 10, 40, 40]])
    batch, _ = crops.crop_people(image, 'rgb', box, 32, MEAN, STD)
    expected = (np.array([10, 100, 200]) / 255 - MEAN) / STD
    np.testing.assert_allclose(batch[0, :, 16, 16], expected, atol=1e-6)
    swapped, _ = crops.crop_people(image[..., ::-1].copy(), 'bgr', box, 32, MEAN, STD)
    np.testing.assert_array_equal(batch, swapped)
    gray, _ = crops.crop_people(image[..., 0].copy(), 'gray', box, 32, MEAN, STD)
    np.testing.assert_allclose(gray[0, :, 16, 16], (10 / 255 - np.array(MEAN)) / STD, atol=1e-6)
    assert batch.dtype == np.float32 and batch.flags['C_CONTIGUOUS']


@settings(deadline=None, max_examples=100)
@given(
    center=st.tuples(st.floats(-200, 900), st.floats(-200, 900)), side=st.floats(2, 2000),
    point=st.tuples(st.floats(-500, 1500), st.floats(-500, 1500)))
def test_maps_are_exact_inverses(center, side, point):
    transform = crops.CropTransform(*center, side, 256)
    np.testing.assert_allclose(
        transform.to_image(transform.to_crop(point)), point, rtol=1e-9, atol=1e-7)
    homogeneous = transform.matrix.astype(np.float64) @ [*point, 1]
    np.testing.assert_allclose(homogeneous, transform.to_crop(point), rtol=2e-6, atol=0.3)


@settings(deadline=None, max_examples=200)
@given(boxes=st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), max_size=5))
def test_no_box_ever_raises(boxes):
    image = picture()
    array = np.float32(boxes).reshape(-1, 4)
    batch, transforms = crops.crop_people(image, 'bgr', array, 16, MEAN, STD)
    assert len(transforms) == len(boxes)
    assert len(batch) == sum(transform is not None for transform in transforms)
    assert np.all(np.isfinite(batch))


@pytest.mark.parametrize('box', [
    [np.nan, 0, 10, 10], [10, 10, 10, 40], [40, 10, 20, 40], [200, 10, 260, 40],
    [-50, -50, -1, -1], [0, 120, 10, 130], [0, 0, np.inf, 10], [5, 5, 5.5, 5.5]])
def test_unusable_boxes(box):
    assert not crops.usable_box(np.float32(box), 160, 120)
    batch, transforms = crops.crop_people(
        picture(), 'rgb', np.float32([box, [10, 10, 60, 100]]), 16, MEAN, STD)
    assert transforms[0] is None and transforms[1] is not None and len(batch) == 1


def test_box_partly_outside_is_used_and_padded_with_black():
    batch, transforms = crops.crop_people(
        picture(), 'rgb', np.float32([[-30, -30, 30, 30]]), 32, (0, 0, 0), (1, 1, 1))
    assert transforms[0] is not None
    assert np.all(batch[0, :, :8, :8] == 0) and batch[0, :, 24:, 24:].max() > 0


@pytest.mark.parametrize('image, color_order, hint', [
    (np.zeros((0, 10, 3), np.uint8), 'rgb', r'\(0, 10, 3\)'),
    (np.zeros((10, 10), np.uint8), 'rgb', r'\(10, 10\)'),
    (np.zeros((10, 10, 3), np.float32), 'bgr', 'float32'),
    (np.zeros((10, 10, 3), np.uint8), 'yuv', 'yuv')])
def test_unusable_image_names_what_was_expected(image, color_order, hint):
    with pytest.raises(PerceptionError, match=hint):
        crops.crop_people(image, color_order, np.float32([[0, 0, 5, 5]]), 16, MEAN, STD)
