# SPDX-License-Identifier: Apache-2.0
"""rsc_net's crops, rows, rotations and cameras against its sheet, checks 4 to 7."""

from dataclasses import replace

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmr_ros.perception import rsc_net
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import crop_people, CropTransform
from hmr_ros.perception.errors import PerceptionError

CAMERA = Camera(900.0, 900.0, 310.0, 250.0, 640, 480)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUMBER = st.one_of(
    st.floats(-3000, 3000), st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0]))


def test_rows_of_the_sheet():
    """Check 4."""
    sides = np.array([300, 224, 223.9, 128, 127.9, 64, 63.9, 40, 39.9, 24, 10])
    rows = rsc_net.rows_of(sides)
    np.testing.assert_array_equal(rows, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4])
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rsc_net.below_trained_range(sides), [False] * 10 + [True])


def test_the_side_counts_source_pixels():
    box = np.float32([100, 100, 150, 300])
    assert rsc_net.native_side(box) == pytest.approx(240)
    assert rsc_net.rows_of(rsc_net.native_side(box, native_scale=0.5)) == 2


def test_a_track_changes_its_row_five_percent_beyond_a_threshold():
    selector = rsc_net.RowSelector()
    seen = [int(selector.rows(['a'], [side])[0])
            for side in (65, 63, 61, 60.5, 63, 66, 67.1, 66, 500, 39, 37.9)]
    #                               60.8 = 0.95 * 64        67.2 = 1.05 * 64
    assert seen == [2, 2, 2, 3, 3, 3, 3, 3, 0, 3, 4]


@settings(deadline=None, max_examples=60)
@given(sides=st.lists(st.floats(5, 400), min_size=1, max_size=12))
def test_hysteresis_keeps_within_its_margin_and_tracks_apart(sides):
    selector, alone = rsc_net.RowSelector(), rsc_net.RowSelector()
    for side in sides:
        row, _, fresh = selector.rows(['a', 'b', ''], [side, 400 - side, side])
        assert row == alone.rows(['a'], [side])[0]
        assert fresh == rsc_net.rows_of(side)
        assert rsc_net.rows_of(1.06 * side) <= row <= rsc_net.rows_of(side / 1.06)


def test_ten_thousand_tracks_leave_no_trace():
    selector = rsc_net.RowSelector()
    for i in range(10_000):
        selector.rows([f't{i}'], [62.0])
    assert len(selector._rows) <= 256
    assert selector.rows(['t0'], [65.0])[0] == 2, 'forgotten: a new track has no history'
    assert selector.rows(['t9999'], [65.0])[0] == 3, 'remembered'


def gradient(height=120, width=160):
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, x + y], axis=-1).astype(np.uint8)


def test_crops_are_cut_at_native_pixels_then_resized():
    image_module = pytest.importorskip('PIL.Image', reason='the reference resampler is Pillow')
    image, box = gradient(), np.float32([60, 40, 80, 90])
    batch, (transform,) = crop_people(image, 'rgb', box[None], 224, MEAN, STD, rsc_net.CROPS)
    assert (transform.center_x, transform.center_y, transform.side) == (70, 65, 60)
    cut = image_module.fromarray(image[35:95, 40:100])
    expected = np.asarray(cut.resize((224, 224), image_module.Resampling.BICUBIC)) / 255.0
    expected = ((expected - MEAN) / STD).transpose(2, 0, 1)
    assert np.abs(batch[0] - expected).max() <= 1 / 255 / min(STD) + 1e-5


def test_outside_the_image_it_is_black_before_normalisation():
    image = np.full((50, 50, 3), 200, np.uint8)
    batch, (transform,) = crop_people(
        image, 'bgr', np.float32([[-30, 10, 20, 60]]), 224, MEAN, STD, rsc_net.CROPS)
    assert (transform.side, transform.center_x, transform.center_y) == (60, -5, 35)
    pixels = batch[0] * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))
    x, y = transform.to_crop(np.array([0.0, 50.0]))
    assert np.abs(pixels[:, :, :int(x) - 8]).max() < 1e-5
    assert np.abs(pixels[:, int(y) + 8:]).max() < 1e-5
    assert np.abs(pixels[:, 10:int(y) - 8, int(x) + 8:] - 200 / 255).max() < 1e-5


@settings(deadline=None, max_examples=60)
@given(box=st.lists(NUMBER, min_size=4, max_size=4), gray=st.booleans())
def test_no_box_breaks_the_crops(box, gray):
    image = gradient()[..., 0] if gray else gradient()
    batch, (transform,) = crop_people(
        image, 'gray' if gray else 'rgb', np.float64([box]), 224, MEAN, STD, rsc_net.CROPS)
    assert len(batch) == (transform is not None)
    assert np.all(np.isfinite(batch))


@pytest.mark.parametrize('side', [1000, 1100])
def test_very_large_crops_keep_their_place(side):
    """Both recipes put the same picture at the same place."""
    image = np.zeros((1300, 1300, 3), np.uint8)
    image[600:, 700:] = 250
    transform = CropTransform(650.0, 650.0, float(side), 224)
    crop = rsc_net.CROPS.cut(image, transform)
    x, y = transform.to_crop(np.array([700, 600]))
    assert abs(np.sum(crop[-1, :, 0] < 125) - x) <= 1
    assert abs(np.sum(crop[:, -1, 0] < 125) - y) <= 1


def outputs(count=5, seed=0):
    """Outputs of an engine for people of random poses, and those poses."""
    rng = np.random.default_rng(seed)
    matrices = Rotation.random(24 * count, random_state=seed).as_matrix().reshape(count, 24, 3, 3)
    cam = np.column_stack([rng.uniform(0.3, 1.4, count), rng.uniform(-0.5, 0.5, (count, 2))])
    return {
        'pose6d': matrices[..., :2].reshape(count, 144).astype(np.float32),
        'betas': rng.normal(size=(count, 10)).astype(np.float32),
        'cam': cam.astype(np.float32)}, matrices


def transforms(count=5, seed=1):
    rng = np.random.default_rng(seed)
    return [CropTransform(*rng.uniform(0, 600, 2), rng.uniform(20, 400), 224)
            for _ in range(count)]


def test_poses_survive_the_six_numbers():
    """Check 6, all joints at once; the numbers themselves are tested with the rotations."""
    given_outputs, matrices = outputs()
    bodies = rsc_net.decode(given_outputs, transforms(), CAMERA)
    np.testing.assert_allclose(bodies.rotmats, matrices, atol=1e-5)
    np.testing.assert_array_equal(bodies.betas, given_outputs['betas'])
    noisy = given_outputs['pose6d'] + np.random.default_rng(0).normal(0, 0.1, (5, 144))
    rotmats = rsc_net.decode({**given_outputs, 'pose6d': noisy}, transforms(), CAMERA).rotmats
    np.testing.assert_allclose(
        rotmats @ np.swapaxes(rotmats, -1, -2), np.broadcast_to(np.eye(3), rotmats.shape),
        atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(rotmats), 1, atol=1e-5)
    nothing = {**given_outputs, 'pose6d': np.zeros((5, 144), np.float32)}
    assert np.all(np.isfinite(rsc_net.decode(nothing, transforms(), CAMERA).rotmats))


def test_depth_of_the_crop_camera():
    """Check 7."""
    np.testing.assert_allclose(
        rsc_net.crop_translation([[0.9, 0.1, -0.2]]), [[0.1, -0.2, 49.603]], atol=5e-4)


def test_both_cameras_show_the_root_plane_at_the_same_pixels():
    """Check 7."""
    cam, places = outputs()[0]['cam'], transforms()
    full = rsc_net.decode(outputs()[0], places, CAMERA).transl.astype(np.float64)
    points = np.random.default_rng(2).uniform(-1, 1, (5, 30, 3)) * (1, 1, 0)
    in_crop = points + rsc_net.crop_translation(cam)[:, None]
    pixels = rsc_net.CROP_FOCAL * in_crop[..., :2] / in_crop[..., 2:] + 112
    pixels = np.stack([place.to_image(one) for place, one in zip(places, pixels)])
    placed = points + full[:, None]
    here = placed[..., :2] / placed[..., 2:] * CAMERA.fx + (CAMERA.cx, CAMERA.cy)
    assert np.abs(here - pixels).max() < 1e-3
    assert np.all(full[:, 2] > 0)


def test_people_that_cannot_be_placed_are_told():
    given_outputs, _ = outputs()
    given_outputs['cam'][:3, 0] = 0.0, -0.1, np.nan
    given_outputs['betas'][3, 2] = np.inf
    np.testing.assert_array_equal(rsc_net.usable(given_outputs), [False] * 4 + [True])


def test_engines_of_other_networks_are_refused():
    given_outputs, _ = outputs()
    rsc_net.check_outputs(given_outputs)
    with pytest.raises(PerceptionError, match="no output 'pose6d'"):
        rsc_net.check_outputs({name: given_outputs[name] for name in ('betas', 'cam')})
    with pytest.raises(PerceptionError, match=r"'pose6d' has shape \(5, 72\)"):
        rsc_net.check_outputs({**given_outputs, 'pose6d': np.zeros((5, 72))})


def test_other_resolution_of_the_same_view_is_the_same_place():
    cam, places = outputs()[0]['cam'], transforms()
    half = [replace(p, center_x=p.center_x / 2, center_y=p.center_y / 2, side=p.side / 2)
            for p in places]
    np.testing.assert_allclose(
        rsc_net.image_translation(cam, half, CAMERA.resized(320, 240)),
        rsc_net.image_translation(cam, places, CAMERA), atol=1e-12)
