# SPDX-License-Identifier: Apache-2.0
"""Keypoints from two classifications: sheet mgil, section 1, checks 7 and 9."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.perception import simcc
from hmr_ros.perception.crops import crop_people, CropTransform
from hmr_ros.perception.errors import PerceptionError

RATIOS = (1, 2, 3)
SIZE = 32


def one_hot(bins: np.ndarray, count: int, height: float = 30.0) -> np.ndarray:
    """Logits `(N, K, count)` that peak at `bins` (N, K)."""
    return (height * (np.arange(count) == bins[..., None])).astype(np.float32)


def outputs_at(points: np.ndarray, ratio: float) -> dict[str, np.ndarray]:
    """Logits that peak at the nearest bins of points `(N, K, 2)`."""
    bins, count = np.rint(ratio * points), round(ratio * SIZE)
    return {'simcc_x': one_hot(bins[..., 0], count), 'simcc_y': one_hot(bins[..., 1], count)}


def test_crop_of_the_sheet() -> None:
    """Check 9: the numbers of section 1."""
    transform = simcc.CROPS.place(np.array([100, 50, 180, 250]), 64)
    matrix = transform.matrix
    assert matrix[0, 0] == matrix[1, 1] == pytest.approx(0.256, abs=1e-6)
    np.testing.assert_allclose(matrix[:, 2], [-3.84, -6.40], atol=1e-6)
    point = simcc.to_image(np.array([[[20, 40]]]), [transform])
    np.testing.assert_allclose(point, [[[93.125, 181.25]]], atol=1e-6)
    np.testing.assert_allclose(transform.to_image(np.array([20, 40])), [93.125, 181.25], atol=1e-6)


@given(st.floats(-500, 2000), st.floats(-500, 2000), st.floats(1, 3000), st.floats(0.05, 20),
       st.sampled_from([32, 64, 128]), st.integers(0, 2 ** 32 - 1))
def test_points_go_to_the_image_and_back(
        x: float, y: float, width: float, aspect: float, size: int, seed: int) -> None:
    transform = simcc.CROPS.place(np.array([x, y, x + width, y + aspect * width]), size)
    assert transform.side == pytest.approx(1.25 * max(width, aspect * width))
    points = np.random.default_rng(seed).uniform(0, size, (1, 17, 2))
    image = simcc.to_image(points, [transform])
    assert image.dtype == np.float32
    # Float32 image pixels, a pixel of the crop being side / size of them.
    error = 2e-7 * (abs(x) + abs(y) + 30 * width * max(1, aspect)) * size / transform.side
    np.testing.assert_allclose(transform.to_crop(image), points, atol=error + 1e-5)


def test_crops_are_not_filtered() -> None:
    """Eight times smaller, each pixel is one bilinear sample: a fine pattern aliases wholly."""
    image = np.zeros((512, 512, 3), np.uint8)
    image[::8, ::8] = 255
    # The sheet's map with f = 1/8 and the centre at 256: crop pixel u shows image pixel 8 u.
    box = np.array([[256 - 204.8, 256 - 204.8, 256 + 204.8, 256 + 204.8]])
    batch, (transform,) = crop_people(image, 'rgb', box, 64, (0, 0, 0), (1, 1, 1), simcc.CROPS)
    assert transform == CropTransform(256, 256, pytest.approx(512), 64)
    np.testing.assert_allclose(batch, 1, atol=0.05)


@pytest.mark.parametrize('names', [simcc.COCO_NAMES, simcc.MPII_NAMES])
def test_mirroring_twice_changes_nothing(names: tuple[str, ...]) -> None:
    """Check 9."""
    order = simcc.mirrored_order(names)
    assert (order[order] == np.arange(len(names))).all()


def test_mirrored_orders_of_the_sheet() -> None:
    assert simcc.mirrored_order(simcc.COCO_NAMES).tolist() == [
        0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert simcc.mirrored_order(simcc.MPII_NAMES).tolist() == [
        5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10]


@given(st.sampled_from(RATIOS), st.integers(0, 2 ** 32 - 1))
def test_decoding_is_off_by_half_a_bin_at_most(ratio: int, seed: int) -> None:
    """Check 7."""
    points = np.random.default_rng(seed).uniform(0, SIZE - 0.5 / ratio - 1e-6, (2, 17, 2))
    decoded, _ = simcc.decode(simcc.probabilities(outputs_at(points, ratio)), ratio)
    assert decoded.dtype == np.float32
    assert np.abs(decoded - points).max() <= 1 / (2 * ratio) + 1e-6


@given(st.sampled_from(RATIOS), st.sampled_from(simcc.AVERAGES), st.integers(0, 2 ** 32 - 1))
def test_an_exact_mirror_image_gives_the_same_bins(ratio: int, average: str, seed: int) -> None:
    """Check 7: whole pixels x, and W - 1 - x in the mirrored crop."""
    points = np.random.default_rng(seed).integers(0, SIZE, (2, 17, 2)).astype(float)
    order = simcc.mirrored_order(simcc.COCO_NAMES)
    turned = points[:, order]
    turned[..., 0] = SIZE - 1 - turned[..., 0]
    outputs, mirrored = outputs_at(points, ratio), outputs_at(turned, ratio)
    shift = simcc.flip_shift_of(ratio)
    assert shift == ratio - 1
    merged = simcc.with_mirrored(outputs, mirrored, order, shift, average)
    decoded, scores = simcc.decode(merged, ratio)
    np.testing.assert_allclose(decoded, points, atol=1e-5)
    # Both agree, so nothing of the peaks is lost.
    np.testing.assert_allclose(scores, 1, atol=1e-4)


def test_published_shifts_are_off_by_a_bin() -> None:
    """A third of a pixel at three bins per pixel, of which the average shows both peaks."""
    points, order = np.full((1, 17, 2), 10.0), simcc.mirrored_order(simcc.COCO_NAMES)
    turned = points.copy()
    turned[..., 0] = SIZE - 1 - 10
    merged = simcc.with_mirrored(outputs_at(points, 3), outputs_at(turned, 3), order, 1)
    np.testing.assert_allclose(merged.x[..., 30:32], 0.5, atol=1e-4)


@settings(max_examples=30)
@given(st.sampled_from(simcc.AVERAGES), st.integers(0, 3), st.integers(0, 2 ** 32 - 1))
def test_averages_against_loops(average: str, shift: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = simcc.mirrored_order(simcc.MPII_NAMES)
    outputs, mirrored = ({name: rng.normal(size=(1, 16, 12)).astype(np.float32)
                          for name in ('simcc_x', 'simcc_y')} for _ in range(2))

    def softmax(logits: np.ndarray) -> np.ndarray:
        return np.exp(logits) / np.exp(logits).sum()

    of = softmax if average == 'probabilities' else np.asarray
    merged = simcc.with_mirrored(outputs, mirrored, order, shift, average)
    for joint in range(16):
        back = of(mirrored['simcc_x'][0, order[joint]])[::-1]
        moved = [back[min(i + shift, 11) if i + shift < 12 else i] for i in range(12)]
        x = (of(outputs['simcc_x'][0, joint]) + moved) / 2
        y = (of(outputs['simcc_y'][0, joint]) + of(mirrored['simcc_y'][0, order[joint]])) / 2
        if average == 'logits':
            x, y = softmax(x), softmax(y)
        np.testing.assert_allclose(merged.x[0, joint], x, atol=1e-6)
        np.testing.assert_allclose(merged.y[0, joint], y, atol=1e-6)


def test_scores_are_the_larger_or_smaller_peak() -> None:
    outputs = {'simcc_x': one_hot(np.array([[3, 5]]), 8, 1.0),
               'simcc_y': one_hot(np.array([[2, 0]]), 8, 2.0)}
    peak = {height: np.exp(height) / (np.exp(height) + 7) for height in (1.0, 2.0)}
    vectors = simcc.probabilities(outputs)
    np.testing.assert_allclose(simcc.decode(vectors, 2)[1], peak[2.0], rtol=1e-6)
    np.testing.assert_allclose(simcc.decode(vectors, 2, 'min')[1], peak[1.0], rtol=1e-6)
    np.testing.assert_allclose(simcc.decode(vectors, 2)[0], [[[1.5, 1], [2.5, 0]]])
    with pytest.raises(PerceptionError, match='score_mode'):
        simcc.decode(vectors, 2, 'mean')


def test_large_logits_give_finite_probabilities() -> None:
    outputs = {name: np.float32([[[1e30, -1e30, 0]]]) for name in ('simcc_x', 'simcc_y')}
    np.testing.assert_array_equal(simcc.probabilities(outputs).x, [[[1, 0, 0]]])


def test_scores_of_people() -> None:
    scores = np.float32([[0.5, 0.01, 0.7], [0.01, 0.02, 0.0]])
    np.testing.assert_allclose(
        simcc.person_scores(scores, np.float32([0.5, 0.9])), [0.3, 0], rtol=1e-6)


def test_nobody_is_no_special_case() -> None:
    outputs = {name: np.empty((0, 17, 96), np.float32) for name in ('simcc_x', 'simcc_y')}
    points, scores = simcc.decode(simcc.probabilities(outputs), 3)
    assert simcc.to_image(points, []).shape == (0, 17, 2) and scores.shape == (0, 17)


@pytest.mark.parametrize('outputs, message', [
    ({'simcc_x': np.zeros((1, 17, 96))}, 'simcc_y'),
    ({'simcc_x': np.zeros((1, 17)), 'simcc_y': np.zeros((1, 17, 96))}, 'simcc_x'),
    ({'simcc_x': np.zeros((1, 17, 96)), 'simcc_y': np.zeros((1, 16, 96))}, 'same')])
def test_other_networks_are_refused(outputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(PerceptionError, match=message):
        simcc.probabilities(outputs)


def test_unknown_averages_are_refused() -> None:
    with pytest.raises(PerceptionError, match='average'):
        simcc.with_mirrored({}, {}, np.arange(17), 2, 'median')


def test_limbs_join_what_belongs_together() -> None:
    """Every keypoint has one, and the mirror image has the same ones."""
    limbs = {frozenset(limb) for limb in simcc.COCO_LIMBS}
    order = simcc.mirrored_order(simcc.COCO_NAMES)
    assert {frozenset(order[list(limb)].tolist()) for limb in limbs} == limbs
    assert set().union(*limbs) == set(range(17)) and len(limbs) == len(simcc.COCO_LIMBS)
    named = {frozenset(simcc.COCO_NAMES[i] for i in limb) for limb in limbs}
    for side in ('left', 'right'):
        for first, second in (('hip', 'knee'), ('knee', 'ankle'), ('shoulder', 'elbow'),
                              ('elbow', 'wrist'), ('shoulder', 'hip')):
            assert {f'{side}_{first}', f'{side}_{second}'} in named
