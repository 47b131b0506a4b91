# SPDX-License-Identifier: Apache-2.0
"""Matching and precision-recall against COCO's own program and the best assignment there is."""

import contextlib
import io

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from hmr_ros.evaluation.box_matching import (
    Band, curve, Found, HIT, match, MISTAKE, NEITHER, OVERLAP, Truth)
from hmr_ros.perception.detection import overlaps

NOBODY = np.zeros((0, 4))
BANDS = (Band(), Band(0, 40), Band(40, 70), Band(70))


def some_boxes(rng, count):
    corner = rng.uniform(0, 150, (count, 2))
    tall = rng.uniform(20, 100, count)
    return np.concatenate([corner, corner + np.stack([0.4 * tall, tall], 1)], 1)


def picture(rng):
    """Truth, and boxes near its people, near what is ignored, and elsewhere."""
    people, ignored = some_boxes(rng, rng.integers(0, 7)), some_boxes(rng, rng.integers(0, 3))
    near = np.concatenate([people, people, ignored])
    near = near + rng.normal(0, 4, near.shape)
    boxes = np.concatenate([near, some_boxes(rng, rng.integers(0, 5))])
    boxes = boxes[rng.random(len(boxes)) < 0.8]
    return Found(boxes, rng.permutation(1000)[:len(boxes)] / 1000), Truth(people, ignored)


def coco_precisions(pictures, band):
    """AP in percent at an overlap of a half by pycocotools, for people of a band's heights."""
    coco = pytest.importorskip('pycocotools.coco', reason='the reference is pycocotools')
    cocoeval = pytest.importorskip('pycocotools.cocoeval')
    labels = {'images': [], 'annotations': [], 'categories': [{'id': 1, 'name': 'person'}]}
    results = {'images': [], 'annotations': [], 'categories': labels['categories']}

    def enter(table, boxes, number, **more):
        for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            table['annotations'].append({
                'id': len(table['annotations']) + 1, 'image_id': number, 'category_id': 1,
                # Bands are of heights; COCO's are of this.
                'area': y1 - y0, 'bbox': [x0, y0, x1 - x0, y1 - y0],
                **{name: values[i] for name, values in more.items()}})
    for number, (found, truth) in enumerate(pictures, 1):
        labels['images'].append({'id': number})
        enter(labels, truth.people, number, iscrowd=[0] * len(truth.people))
        enter(labels, truth.ignored, number, iscrowd=[1] * len(truth.ignored))
        enter(results, found.boxes, number, score=found.scores.tolist())
    results['images'] = labels['images']
    with contextlib.redirect_stdout(io.StringIO()):
        tables = [coco.COCO(), coco.COCO()]
        for table, content in zip(tables, (labels, results)):
            table.dataset = content
            table.createIndex()
        run = cocoeval.COCOeval(*tables, 'bbox')
        run.params.iouThrs = np.array([OVERLAP])
        run.params.areaRng, run.params.areaRngLbl = [[band.low, min(band.high, 1e9)]], ['all']
        run.evaluate()
        run.accumulate()
    found = run.eval['precision'][0, :, 0, 0, -1]
    return float('nan') if found[0] == -1 else 100 * found.mean()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2 ** 32 - 1), st.sampled_from(BANDS))
def test_average_precision_is_that_of_coco(seed, band):
    rng = np.random.default_rng(seed)
    pictures = [picture(rng) for _ in range(4)]
    found = curve(*zip(*pictures), band).average_precision()
    assert found == pytest.approx(coco_precisions(pictures, band), abs=1e-6, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2 ** 32 - 1))
def test_nobody_is_found_twice_and_few_are_lost_to_greed(seed):
    found, truth = picture(np.random.default_rng(seed))
    outcome = match(found, truth)
    possible = overlaps(found.boxes, truth.people) >= OVERLAP
    most = possible[linear_sum_assignment(-possible.astype(float))].sum()
    hits = np.sum(outcome == HIT)
    # Taking what is best for each in turn finds half of the largest matching at least.
    assert most / 2 <= hits <= most
    assert np.all(possible[outcome == HIT].any(axis=1))
    if np.all(possible.sum(axis=0) <= 1) and np.all(possible.sum(axis=1) <= 1):
        assert hits == most


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2 ** 32 - 1))
def test_bands_share_the_people_between_them(seed):
    pictures = [picture(np.random.default_rng([seed, i])) for i in range(3)]
    curves = [curve(*zip(*pictures), band) for band in BANDS]
    assert curves[0].people == sum(part.people for part in curves[1:])
    assert all(part.hits.max(initial=0) <= part.people for part in curves)


def test_what_lies_in_an_ignored_box_is_neither_however_often():
    truth = Truth(np.float64([[0, 0, 20, 50]]), np.float64([[100, 0, 200, 100]]))
    boxes = np.float64([[0, 0, 20, 50], [110, 10, 130, 60], [120, 10, 140, 60], [195, 0, 215, 50],
                        [1, 0, 21, 50], [300, 0, 320, 50]])
    outcome = match(Found(boxes, np.linspace(1, 0.5, 6)), truth)
    np.testing.assert_array_equal(outcome, [HIT, NEITHER, NEITHER, MISTAKE, MISTAKE, MISTAKE])


def test_the_better_score_takes_the_person():
    truth = Truth(np.float64([[0, 0, 20, 50]]), NOBODY)
    boxes = np.float64([[0, 0, 20, 50], [2, 0, 22, 50]])
    np.testing.assert_array_equal(
        match(Found(boxes, np.array([0.3, 0.7])), truth), [MISTAKE, HIT])


def test_points_of_a_curve():
    people = some_boxes(np.random.default_rng(5), 4) + 300 * np.arange(4)[:, None]
    elsewhere = people + 5000
    boxes = np.stack([people[0], people[1], elsewhere[0], people[2], elsewhere[1]])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    drawn = curve([Found(boxes, scores)], [Truth(people, NOBODY)])
    np.testing.assert_allclose(drawn.recall, [0.25, 0.5, 0.5, 0.75, 0.75])
    np.testing.assert_allclose(drawn.precision, [1, 1, 2 / 3, 3 / 4, 3 / 5])
    assert [drawn.found_at(p) for p in (1.0, 0.75, 0.7, 0.1)] == [2, 3, 3, 3]
    assert drawn.point(0.7) == (2, pytest.approx(2 / 3)) and drawn.point(0.95) == (0, 1.0)


def test_nothing_found_and_nobody_there():
    nothing = Found(NOBODY, np.zeros(0))
    empty = curve([nothing], [Truth(NOBODY, NOBODY)])
    assert np.isnan(empty.average_precision()) and empty.found_at(0.0) == 0
    missed = curve([nothing], [Truth(some_boxes(np.random.default_rng(0), 3), NOBODY)])
    assert missed.average_precision() == 0 and missed.people == 3
