# SPDX-License-Identifier: Apache-2.0
"""Keypoints come back from exact peaks; what cannot be used is left out, counted or named."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.perception.crops import crop_people
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.keypoints2d import KeypointFinder, KeypointSettings, settings_of
from hmr_ros.perception.person import PersonBox
from hmr_ros.perception.simcc import CROPS

IMAGE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
SIZE, RATIO, PEAK = 32, 3, 8.0


def tensor(name, *shape):
    return SimpleNamespace(name=name, shape=shape)


class PoseEngine:
    """Peaks where it is told, batch after batch, and keeps the crops that it was given."""

    name = 'peaks'

    def __init__(self, bins=np.zeros((0, 17, 2)), ratio=RATIO, count=17, size=SIZE):
        self.inputs = (tensor('image', -1, 3, size, size),)
        self.outputs = tuple(
            tensor(name, -1, count, ratio * size) for name in ('simcc_x', 'simcc_y'))
        self.logits = {
            name: (PEAK * (np.arange(ratio * size) == bins[..., axis:axis + 1])).astype(np.float32)
            for axis, name in enumerate(('simcc_x', 'simcc_y'))}
        self.position, self.batches = 0, []

    def run(self, feeds):
        self.batches.append(feeds['image'])
        rows = slice(self.position, self.position + len(feeds['image']))
        self.position = rows.stop
        return {name: logits[rows] for name, logits in self.logits.items()}


def people_in(count, seed=0):
    rng = np.random.default_rng(seed)
    corners, sizes = rng.uniform(0, 300, (count, 2)), rng.uniform(20, 180, (count, 2))
    boxes = [PersonBox(np.float32([*c, *(c + s)]), 0.5, f'p{i}')
             for i, (c, s) in enumerate(zip(corners, sizes))]
    return boxes, rng.integers(0, RATIO * SIZE, (count, 17, 2))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2 ** 32 - 1))
def test_keypoints_lie_in_the_image_where_the_peaks_are_in_the_crops(count, seed):
    boxes, bins = people_in(count, seed)
    engine = PoseEngine(bins)
    finder = KeypointFinder(engine, KeypointSettings(SIZE, max_batch=2))
    people = finder.find(IMAGE, 'bgr', boxes)
    assert [len(batch) for batch in engine.batches] == [2] * (count // 2) + [1] * (count % 2)
    assert [person.track_id for person in people] == [box.track_id for box in boxes]
    peak = np.exp(PEAK) / (np.exp(PEAK) + RATIO * SIZE - 1)
    for box, of_bins, person in zip(boxes, bins, people):
        # The sheet's map, from the crop's pixels back to the image.
        x0, y0, x1, y1 = box.box
        side = 1.25 * max(x1 - x0, y1 - y0)
        expected = ((of_bins / RATIO - SIZE / 2) * side / SIZE
                    + [(x0 + x1) / 2, (y0 + y1) / 2])
        np.testing.assert_allclose(person.keypoints, expected, atol=1e-3)
        np.testing.assert_allclose(person.confidence, peak, rtol=1e-5)
        np.testing.assert_array_equal(person.box, box.box)
        assert person.score == pytest.approx(0.5 * peak, rel=1e-5)
        assert person.keypoints.dtype == person.confidence.dtype == np.float32


def test_keypoints_below_the_least_score_are_not_found():
    boxes, bins = people_in(2)
    engine = PoseEngine(bins)
    for logits in engine.logits.values():
        logits[0, 4] *= 0.25
    first, second = KeypointFinder(engine).find(IMAGE, 'bgr', boxes, 0.5)
    np.testing.assert_array_equal(np.isnan(first.keypoints[:, 0]), np.arange(17) == 4)
    np.testing.assert_array_equal(np.isnan(first.keypoints[:, 1]), np.arange(17) == 4)
    assert 0 < first.confidence[4] < 0.5 and np.isfinite(second.keypoints).all()


def test_score_mode_says_which_peak_counts():
    boxes, bins = people_in(1)
    found = {}
    for mode in ('max', 'min'):
        engine = PoseEngine(bins)
        engine.logits['simcc_y'] *= 0.5
        finder = KeypointFinder(engine, settings_of(engine, score_mode=mode))
        found[mode] = finder.find(IMAGE, 'bgr', boxes)[0].confidence
    assert (found['max'] > 0.9).all() and (found['min'] < 0.5).all()


def test_confidences_are_shares_of_the_peak_that_means_certainty():
    boxes, bins = people_in(1)

    def found(top_score):
        engine = PoseEngine(bins)
        engine.logits['simcc_y'][:, :9] *= 0.5
        finder = KeypointFinder(engine, KeypointSettings(
            SIZE, score_mode='min', top_score=top_score))
        return finder.find(IMAGE, 'bgr', boxes)[0].confidence

    plain, shares = found(1.0), found(0.5)
    np.testing.assert_allclose(shares, np.minimum(plain / 0.5, 1), rtol=1e-6)
    assert shares[9:].min() == 1 and 0 < shares[:9].max() < 1


def test_bad_boxes_and_people_that_are_not_finite_are_left_out_and_counted():
    boxes, bins = people_in(3)
    engine = PoseEngine(bins)
    engine.logits['simcc_y'][1, 16, 5] = np.nan
    outside = PersonBox(np.float32([700, 10, 760, 100]), 0.9, 'away')
    finder = KeypointFinder(engine)
    people = finder.find(IMAGE, 'bgr', [boxes[0], outside, *boxes[1:]])
    assert [person.track_id for person in people] == ['p0', 'p2']
    assert (finder.rejected_boxes, finder.rejected_people) == (1, 1)
    record = finder.record
    assert (record.people, record.rejected_boxes, record.rejected_people) == (2, 1, 1)
    assert record.crop_ms > 0 and record.network_ms > 0 and record.decode_ms > 0


def test_nobody_is_an_empty_list_without_a_call_of_the_engine():
    engine = PoseEngine()
    assert KeypointFinder(engine).find(IMAGE, 'bgr', []) == []
    assert engine.batches == []


def test_a_detector_without_scores_is_taken_as_certain():
    boxes, bins = people_in(1)
    person, = KeypointFinder(PoseEngine(bins)).find(
        IMAGE, 'bgr', [PersonBox(boxes[0].box, float('nan'))])
    assert person.score == pytest.approx(person.confidence.mean())


@pytest.mark.parametrize('wanted', ['rgb', 'bgr'])
@pytest.mark.parametrize('order', ['rgb', 'bgr', 'gray'])
def test_crops_are_the_training_ones_in_the_order_of_the_engine(wanted, order):
    boxes, bins = people_in(2)
    engine = PoseEngine(bins)
    engine.entry = SimpleNamespace(
        image_size=SIZE, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), color_order=wanted)
    image = IMAGE[..., 0] if order == 'gray' else IMAGE
    KeypointFinder(engine).find(image, order, boxes)
    plain, _ = crop_people(
        image, order, np.stack([box.box for box in boxes]), SIZE, (0, 0, 0), (1, 1, 1), CROPS)
    colors = plain[:, ::-1] if wanted == 'bgr' else plain
    expected = (colors - np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1)) / np.float32(
        [0.5, 0.6, 0.7]).reshape(3, 1, 1)
    np.testing.assert_allclose(engine.batches[0], expected, atol=1e-5)


def test_an_engine_that_cuts_filtered_crops_gets_unfiltered_ones():
    boxes, bins = people_in(1)
    engine = PoseEngine(bins)
    engine.run_crops = None
    KeypointFinder(engine).find(IMAGE, 'bgr', boxes)

    def run_crops(*_):
        raise AssertionError('these crops would be filtered')
    engine.run_crops, engine.position = run_crops, 0
    assert len(KeypointFinder(engine).find(IMAGE, 'bgr', boxes)) == 1


def test_settings_come_with_the_engine():
    assert settings_of(PoseEngine(size=128, ratio=2)) == KeypointSettings(128)
    engine = PoseEngine()
    engine.entry = SimpleNamespace(mean=(0, 0, 0), std=(1, 1, 1))
    assert settings_of(engine, 5, 'min') == KeypointSettings(
        SIZE, (0, 0, 0), (1, 1, 1), max_people=5, score_mode='min')


@pytest.mark.parametrize('own, asked, expected', [
    ('min', 'auto', 'min'), ('min', 'max', 'max'), ('', 'auto', 'max'), ('', 'min', 'min')])
def test_the_engine_says_how_it_is_scored_unless_somebody_else_does(own, asked, expected):
    engine = PoseEngine()
    engine.entry = SimpleNamespace(mean=(0, 0, 0), std=(1, 1, 1), score_mode=own)
    assert settings_of(engine, score_mode=asked).score_mode == expected


def broken(**changes):
    engine = PoseEngine()
    for name, value in changes.items():
        setattr(engine, name, value)
    return engine


X, Y = tensor('simcc_x', -1, 17, 96), tensor('simcc_y', -1, 17, 96)


@pytest.mark.parametrize('engine, words', [
    (broken(inputs=(tensor('picture', -1, 3, 32, 32),)), ['picture', 'image (N, 3, S, S)']),
    (broken(inputs=(tensor('image', -1, 3, 64, 48),)), ['64, 48', 'square']),
    (broken(inputs=(*PoseEngine().inputs, tensor('row', -1))), ['row', 'alone']),
    (broken(outputs=(X,)), ['simcc_y ()', '17']),
    (broken(outputs=(X, tensor('simcc_y', -1, 17, 64))), ['64', 'bins']),
    (PoseEngine(count=16), ['16', 'COCO']),
    (broken(entry=SimpleNamespace(mean=(0, 0, 0), std=(1, 1, 1), color_order='yuv')),
     ['yuv', 'rgb or bgr']),
    (broken(entry=SimpleNamespace(mean=(0, 0, 0), std=(1, 1, 1), score_mode='mean')),
     ['mean', 'max or min'])])
def test_engines_of_other_kinds_are_named(engine, words):
    with pytest.raises(PerceptionError) as error:
        settings_of(engine)
    assert all(word in str(error.value) for word in ['peaks', *words]), error.value


@pytest.mark.parametrize('change, words', [
    (lambda logits: logits.pop('simcc_x'), 'simcc_x'),
    (lambda logits: logits.update(simcc_y=logits['simcc_y'][:, :16]), '16'),
    (lambda logits: logits.update({k: v[:1] for k, v in logits.items()}), 'for 2 people')])
def test_outputs_of_other_shapes_are_named(change, words):
    boxes, bins = people_in(2)
    engine = PoseEngine(bins)
    finder = KeypointFinder(engine)
    change(engine.logits)
    with pytest.raises(PerceptionError, match=words):
        finder.find(IMAGE, 'bgr', boxes)


@pytest.mark.parametrize('image, order', [
    (IMAGE.astype(np.float32), 'bgr'), (IMAGE, 'yuv'), (IMAGE[..., 0], 'rgb')])
def test_images_of_other_kinds_are_refused(image, order):
    boxes, bins = people_in(1)
    with pytest.raises(PerceptionError):
        KeypointFinder(PoseEngine(bins)).find(image, order, boxes)


def test_the_best_boxes_win_when_there_are_too_many():
    boxes, bins = people_in(3)
    scored = [PersonBox(box.box, score, box.track_id)
              for box, score in zip(boxes, (0.2, 0.9, 0.5))]
    engine = PoseEngine(bins)
    people = KeypointFinder(engine, settings_of(engine, 2)).find(IMAGE, 'bgr', scored)
    assert [person.track_id for person in people] == ['p1', 'p2']
