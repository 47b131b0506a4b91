# SPDX-License-Identifier: Apache-2.0
"""OKS and its average precision against COCO's own program."""

import contextlib
import io

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.evaluation.oks import average_precision, oks

#: where the twelve limb joints stand among COCO's 17 keypoints.
PLACES = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]


def coco_ap(predicted, true, area, valid, confidence):
    """AP of pycocotools, every person in a picture of its own."""
    coco = pytest.importorskip('pycocotools.coco', reason='the reference is pycocotools')
    cocoeval = pytest.importorskip('pycocotools.cocoeval')
    labels = {'images': [], 'annotations': [], 'categories': [{'id': 1, 'name': 'person'}]}
    results = []
    for i in range(len(true)):
        rows = np.zeros((17, 3))
        rows[PLACES, :2], rows[PLACES, 2] = true[i], 2 * valid[i]
        found = np.ones((17, 3))
        found[PLACES, :2] = predicted[i]
        labels['images'].append({'id': i + 1})
        labels['annotations'].append({
            'id': i + 1, 'image_id': i + 1, 'category_id': 1, 'iscrowd': 0, 'area': area[i],
            'bbox': [0, 0, 1, 1], 'keypoints': rows.ravel().tolist(),
            'num_keypoints': int(valid[i].sum())})
        results.append({'image_id': i + 1, 'category_id': 1, 'score': float(confidence[i]),
                        'keypoints': found.ravel().tolist()})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = labels
        truth.createIndex()
        run = cocoeval.COCOeval(truth, truth.loadRes(results), 'keypoints')
        run.evaluate()
        run.accumulate()
        run.summarize()
    return 100 * run.stats[0]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2 ** 32 - 1))
def test_average_precision_is_that_of_coco(seed):
    rng = np.random.default_rng(seed)
    count = 12
    true = rng.uniform(50, 200, (count, 12, 2))
    area = rng.uniform(5e3, 2e4, count)
    predicted = true + rng.normal(size=true.shape) * rng.uniform(0, 15, (count, 1, 1))
    valid = rng.random((count, 12)) < 0.8
    valid[:, 0] = True
    confidence = rng.permutation(count) / count
    found = average_precision(oks(predicted, true, area, valid), confidence)
    assert found == pytest.approx(coco_ap(predicted, true, area, valid, confidence), abs=1e-6)


def test_people_without_a_joint_do_not_count():
    true = np.zeros((2, 12, 2))
    valid = np.zeros((2, 12), bool)
    valid[0] = True
    similarity = oks(true, true, np.ones(2), valid)
    assert similarity[0] == 1 and np.isnan(similarity[1])
    assert average_precision(similarity, np.ones(2)) == 100
    assert np.isnan(average_precision(similarity[1:], np.ones(1)))
