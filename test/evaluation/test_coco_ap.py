# SPDX-License-Identifier: Apache-2.0
"""COCO's measure over pictures, against COCO's own program."""

from __future__ import annotations

import contextlib
import io

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.evaluation.coco_ap import Found, keypoint_scores, Labelled, without_copies
from hmr_ros.evaluation.oks import COCO_SIGMAS

#: as COCO's summary has them.
NAMES = ('ap', 'ap50', 'ap75', 'ap_medium', 'ap_large', 'ar', 'ar50', 'ar75', 'ar_medium',
         'ar_large')


def scene(seed, pictures=6):
    """Draw people of all sizes, crowds, people without keypoints, misses, copies and ghosts."""
    rng, truth, found = np.random.default_rng(seed), {}, {}
    for picture in range(1, pictures + 1):
        truth[picture], found[picture] = [], []
        for _ in range(rng.integers(0, 6)):
            one, side = person(rng)
            truth[picture].append(one)
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                off = rng.normal(0, rng.choice([0.01, 0.05, 0.3]) * side, (17, 2))
                found[picture].append(Found(one.keypoints[:, :2] + off, score(rng), side ** 2))
        for _ in range(rng.integers(0, 2)):
            found[picture].append(Found(rng.uniform(0, 400, (17, 2)), score(rng), 1e4))
    for _ in range(25):
        # More than count.
        found[1].append(Found(rng.uniform(0, 400, (17, 2)), 0.001 * score(rng), 1e4))
    return truth, found


def score(rng):
    # Of a few, so that some are equal.
    return float(rng.integers(1, 40) / 40)


def person(rng):
    side = rng.choice([20, 50, 150])
    keypoints = np.concatenate([
        rng.uniform(0, 300, 2) + rng.uniform(0, side, (17, 2)),
        rng.choice([0, 1, 2], (17, 1))], axis=1)
    kind = rng.integers(6)
    if kind == 0:
        keypoints[:, 2] = 0
    low, high = keypoints[:, :2].min(axis=0), keypoints[:, :2].max(axis=0)
    return Labelled(keypoints, np.concatenate([low, high]), 0.6 * side ** 2, kind == 1), side


def reference(truth, found):
    """What pycocotools says."""
    coco = pytest.importorskip('pycocotools.coco', reason='the reference is pycocotools')
    cocoeval = pytest.importorskip('pycocotools.cocoeval')
    rows = [{
        'image_id': picture, 'category_id': 1, 'iscrowd': int(one.crowd), 'area': one.area,
        'bbox': [*one.box[:2], *(one.box[2:] - one.box[:2])],
        'keypoints': one.keypoints.ravel().tolist(),
        'num_keypoints': int(np.sum(one.keypoints[:, 2] > 0))}
        for picture, people in truth.items() for one in people]
    results = [{
        'image_id': picture, 'category_id': 1, 'score': one.score,
        'keypoints': np.column_stack([one.keypoints, np.ones(17)]).ravel().tolist()}
        for picture, people in found.items() for one in people]
    with contextlib.redirect_stdout(io.StringIO()):
        labels = coco.COCO()
        labels.dataset = {
            'images': [{'id': picture} for picture in truth], 'info': {},
            'annotations': [{'id': i + 1, **row} for i, row in enumerate(rows)],
            'categories': [{'id': 1, 'name': 'person'}]}
        labels.createIndex()
        run = cocoeval.COCOeval(labels, labels.loadRes(results), 'keypoints')
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {name: 100 * value if value >= 0 else np.nan
            for name, value in zip(NAMES, run.stats)}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2 ** 31))
def test_all_numbers_are_those_of_coco_s_program(seed):
    truth, found = scene(seed)
    expected, ours = reference(truth, found), keypoint_scores(truth, found)
    assert set(ours) == set(expected)
    for name in NAMES:
        np.testing.assert_allclose(ours[name], expected[name], atol=1e-6, err_msg=name)


def test_the_truth_has_full_marks_and_nobody_found_has_none():
    truth, _ = scene(3)
    exact = {picture: [Found(one.keypoints[:, :2], 1.0) for one in people]
             for picture, people in truth.items()}
    assert keypoint_scores(truth, exact)['ap'] == pytest.approx(100)
    assert keypoint_scores(truth, {})['ap'] == keypoint_scores(truth, {})['ar'] == 0
    assert np.isnan(keypoint_scores({1: []}, exact)['ap'])


def test_pictures_without_labels_of_their_own_do_not_count():
    truth, found = scene(4)
    assert keypoint_scores(truth, {**found, 99: found[1]}) == keypoint_scores(truth, found)


def test_copies_are_those_closer_than_the_threshold():
    points, area = np.zeros((17, 2)), 100.0 ** 2
    # The same similarity at all keypoints: exp(-d^2 / (2 area (2 s)^2)).
    step = 2 * COCO_SIGMAS[:, None] * np.sqrt(2 * area) * [1, 0]
    best = Found(points, 0.5, area)
    near, far = (Found(points + step * np.sqrt(-np.log(similarity)), 0.4, area)
                 for similarity in (0.91, 0.89))
    assert without_copies([near, best, far]) == [best, far]
    assert without_copies([near, best], 0.95) == [best, near]
    assert without_copies([]) == []


def test_a_copy_of_a_copy_stays():
    """Who was left out removes nobody."""
    points, area = np.zeros((17, 2)), 100.0 ** 2
    step = 2 * COCO_SIGMAS[:, None] * np.sqrt(2 * area) * [1, 0]
    first, second, third = (
        Found(points + i * 0.3 * step, 0.9 - 0.1 * i, area) for i in range(3))
    assert without_copies([third, second, first]) == [first, third]
