# SPDX-License-Identifier: Apache-2.0
"""A stand-in network that sees pure blue, and what becomes of its boxes."""

from dataclasses import dataclass, field

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.perception.detection import overlaps
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.learned_detection import (
    FREE_GREY, LearnedPersonDetector, LearnedSettings, Letterbox)
from hmr_ros.runtime import TensorSpec

TALL, WIDE, COUNT = 96, 160, 600


@dataclass
class StandIn:
    """Gives `boxes` and `scores`, and where its input is blue when there are none."""

    boxes: np.ndarray | None = None
    scores: np.ndarray | None = None
    name: str = 'stand-in'
    inputs: tuple = (TensorSpec('image', (-1, 3, TALL, WIDE), 'float32'),)
    outputs: tuple = (TensorSpec('boxes', (-1, COUNT, 4), 'float32'),
                      TensorSpec('scores', (-1, COUNT, 1), 'float32'))
    seen: list = field(default_factory=list)

    def run(self, feeds):
        image = feeds['image']
        assert image.shape == (1, 3, TALL, WIDE) and image.dtype == np.float32
        self.seen.append(image[0].copy())
        boxes, scores = np.zeros((1, COUNT, 4), np.float32), np.zeros((1, COUNT, 1), np.float32)
        if self.boxes is None:
            red, _, blue = image[0]
            rows, columns = np.nonzero((blue > 0.6) & (red < 0.4))
            if len(rows):
                boxes[0, 3] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                scores[0, 3] = 0.75
        else:
            boxes[0, :len(self.boxes)], scores[0, :len(self.boxes), 0] = self.boxes, self.scores
        return {'boxes': boxes, 'scores': scores}


def crowd(rng, count):
    """Boxes `(count, 4)` that overlap, in an input of the network, and scores."""
    corner = rng.uniform(0, (WIDE - 40, TALL - 40), (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 40, (count, 2))], 1)
    return boxes.astype(np.float32), rng.permutation(count).astype(np.float32) / count


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2 ** 32 - 1))
def test_a_blue_person_is_found_where_it_is_in_images_of_all_sizes(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(40, 900, 2)
    image = np.full((height, width, 3), 150, np.uint8)
    low = rng.integers(0, np.array([width, height]) // 2)
    high = low + rng.integers(np.array([width, height]) // 4, np.array([width, height]) // 2)
    image[low[1]:high[1], low[0]:high[0]] = (255, 0, 0)
    found, = LearnedPersonDetector(StandIn()).detect(image)
    pixel = max(height / TALL, width / WIDE)
    np.testing.assert_allclose(found.box, [*low, *high], atol=1.01 * max(pixel, 1))
    assert found.score == 0.75 and found.box.dtype == np.float32


@pytest.mark.parametrize('shape', [(1, 1), (1, 4000), (4000, 1), (3, 900), (900, 3)])
@pytest.mark.parametrize('color', [(150, 150, 150), (255, 0, 0)])
def test_images_of_a_pixel_and_strips_are_searched(shape, color):
    people = LearnedPersonDetector(StandIn()).detect(np.full((*shape, 3), color, np.uint8))
    assert len(people) == (color == (255, 0, 0))
    for person in people:
        np.testing.assert_allclose(person.box, [0, 0, shape[1], shape[0]], atol=0.51)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_letterboxes_are_as_large_as_they_go(height, width):
    letterbox = Letterbox.of((height, width), (TALL, WIDE))
    (tall, wide), (left, top) = letterbox.size, letterbox.corner
    assert (tall == TALL and wide <= WIDE) or (wide == WIDE and tall <= TALL)
    assert abs(TALL - tall - 2 * top) <= 1 and abs(WIDE - wide - 2 * left) <= 1
    whole = letterbox.to_image(np.array([left, top, left + wide, top + tall]))
    np.testing.assert_allclose(whole, [0, 0, width, height], atol=1e-9)


def test_the_network_sees_red_first_from_0_to_1_on_grey():
    network = StandIn()
    LearnedPersonDetector(network).detect(np.full((96, 80, 3), (51, 102, 255), np.uint8))
    seen, = network.seen
    np.testing.assert_allclose(seen[:, :, 40:120].mean((1, 2)), [1, 0.4, 0.2], atol=1e-6)
    for free in (seen[:, :, :40], seen[:, :, 120:]):
        np.testing.assert_allclose(free, FREE_GREY / 255, atol=1e-6)


def test_fine_stripes_do_not_alias():
    image = np.zeros((4 * TALL, 4 * WIDE, 3), np.uint8)
    image[:, ::2] = 255
    network = StandIn()
    LearnedPersonDetector(network).detect(image)
    assert np.ptp(network.seen[0]) < 0.01 and abs(network.seen[0].mean() - 0.5) < 0.01


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2 ** 32 - 1), st.floats(0.1, 0.9))
def test_of_boxes_that_overlap_the_best_one_stays(seed, max_overlap):
    boxes, scores = crowd(np.random.default_rng(seed), 60)
    people = LearnedPersonDetector(StandIn(boxes, scores), LearnedSettings(
        min_score=0.2, max_overlap=max_overlap, max_people=1000)).detect(
            np.zeros((TALL, WIDE, 3), np.uint8))
    # One after the other, as the words say it.
    expected = []
    for i in np.argsort(-scores):
        if scores[i] >= 0.2 and all(
                overlaps(boxes[i:i + 1], boxes[j:j + 1])[0, 0] <= max_overlap for j in expected):
            expected.append(i)
    np.testing.assert_allclose([person.box for person in people], boxes[expected], atol=1e-4)
    np.testing.assert_allclose([person.score for person in people], scores[expected])


def test_a_flood_of_boxes_leaves_the_best_ones():
    column, row = np.meshgrid(np.arange(0, WIDE, 5.0), np.arange(0, TALL, 5.0))
    corner = np.stack([column.ravel(), row.ravel()], 1)[:COUNT]
    scores = (1 + np.random.default_rng(0).permutation(len(corner))) / len(corner)
    detector = LearnedPersonDetector(
        StandIn(np.concatenate([corner, corner + 4], 1), scores),
        LearnedSettings(min_score=0.0, max_people=10))
    people = detector.detect(np.zeros((TALL, WIDE, 3), np.uint8))
    np.testing.assert_allclose([person.score for person in people], np.sort(scores)[:-11:-1])


def test_boxes_end_at_the_border_and_too_small_ones_are_nobody():
    boxes = [[-20, 40, 30, 120], [60, 10, 66, 30], [80, 10, 86, 28], [200, 10, 240, 60]]
    detector = LearnedPersonDetector(
        StandIn(np.float32(boxes), np.float32([0.9, 0.8, 0.7, 0.6])),
        LearnedSettings(min_person=0.2))
    people = detector.detect(np.zeros((TALL, WIDE, 3), np.uint8))
    np.testing.assert_allclose([person.box for person in people],
                               [[0, 40, 30, TALL], [60, 10, 66, 30]], atol=1e-4)


def spec(name, *shape):
    return TensorSpec(name, shape, 'float32')


BOXES, SCORES = StandIn().outputs


@pytest.mark.parametrize('change, words', [
    ({'inputs': (spec('image', -1, 3, 64, 64), spec('row', -1))}, ['row', 'alone']),
    ({'inputs': (spec('picture', -1, 3, 64, 64),)}, ['picture', 'image (N, 3, H, W)']),
    ({'inputs': (spec('image', -1, 1, 64, 64),)}, ['(-1, 1, 64, 64)']),
    ({'inputs': (spec('image', -1, 3, 64, 50),)}, ['50', 'multiples of 32']),
    ({'inputs': (spec('image', -1, 3, -1, 64),)}, ['-1', 'fixed']),
    ({'inputs': (spec('image', 2, 3, 64, 64),)}, ['(2, 3, 64, 64)']),
    ({'outputs': (BOXES,)}, ['scores (N, M, 1)']),
    ({'outputs': (BOXES, spec('scores', -1, COUNT, 80))}, ['80', 'scores (N, M, 1)']),
    ({'outputs': (BOXES, spec('scores', -1, 7, 1))}, ['7', 'scores (N, M, 1)']),
    ({'outputs': (spec('boxes', -1, COUNT, 5), SCORES)}, ['5', 'boxes (N, M, 4)'])])
def test_engines_of_other_networks_are_refused(change, words):
    with pytest.raises(PerceptionError) as error:
        LearnedPersonDetector(StandIn(**change))
    assert all(word in str(error.value) for word in ['stand-in', 'mgil_detector', *words])


@pytest.mark.parametrize('change, words', [
    (lambda outputs: outputs.pop('scores'), ['scores', '()']),
    (lambda outputs: outputs.update(boxes=outputs['boxes'][:, :9]), ['boxes', '(1, 9, 4)']),
    (lambda outputs: outputs['scores'].fill(np.nan), ['scores', 'finite', 'fp32'])])
def test_outputs_that_cannot_be_used_are_named(change, words):
    class Broken(StandIn):
        def run(self, feeds):
            outputs = super().run(feeds)
            change(outputs)
            return outputs
    detector = LearnedPersonDetector(Broken())
    with pytest.raises(PerceptionError) as error:
        detector.detect(np.zeros((50, 50, 3), np.uint8))
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize('image', [
    np.zeros((50, 50), np.uint8), np.zeros((50, 50, 3)), np.zeros((0, 50, 3), np.uint8)])
def test_images_of_another_kind_are_refused(image):
    with pytest.raises(PerceptionError, match='bgr image must be uint8'):
        LearnedPersonDetector(StandIn()).detect(image)


def test_parts_of_larger_images_need_no_copy():
    image = np.full((400, 600, 3), 150, np.uint8)
    cv2.rectangle(image, (250, 150), (299, 299), (255, 0, 0), -1)
    view = image[100:350, 200:500]
    assert not view.flags.c_contiguous
    found, = LearnedPersonDetector(StandIn()).detect(view)
    np.testing.assert_allclose(found.box, [50, 50, 100, 200], atol=3)
