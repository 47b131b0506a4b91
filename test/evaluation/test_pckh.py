# SPDX-License-Identifier: Apache-2.0
"""PCKh of MPII by hand-made hits and misses."""

from __future__ import annotations

import numpy as np
import pytest

from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.pckh import head_sizes, pckh
from hmr_ros.perception.simcc import MPII_NAMES

#: a diagonal of 50, so a size of 30 and a limit of 15 pixels.
HEADS = np.tile([10.0, 20.0, 40.0, 60.0], (4, 1))
TRUE = np.random.default_rng(0).uniform(0, 300, (4, 16, 2))
ALL = np.ones((4, 16), bool)


def row(name):
    return MPII_NAMES.index(name)


def test_the_limit_is_half_of_six_tenths_of_the_diagonal():
    np.testing.assert_allclose(head_sizes(HEADS), 30)
    for off, expected in ((14.9, 100.0), (15.1, 0.0)):
        assert set(pckh(TRUE + [off, 0], TRUE, HEADS, ALL).values()) == {expected}


def test_pairs_are_means_of_their_sides_and_the_mean_counts_keypoints():
    predicted, valid = TRUE.copy(), ALL.copy()
    # Of one visible left wrist none is right, of four right wrists all.
    valid[1:, row('left_wrist')] = False
    predicted[0, row('left_wrist')] += 100
    predicted[:2, row('head_top')] += 100
    predicted[:, row('upper_neck')] += 100
    found = pckh(predicted, TRUE, HEADS, valid)
    assert found['wrist'] == 50 and found['head'] == 50 and found['ankle'] == 100
    # 14 keypoints of 4 people but 3 wrists; 7 are missed.
    assert found['mean'] == pytest.approx(100 * (1 - 7 / (14 * 4 - 3)))


@pytest.mark.parametrize('name', ['pelvis', 'thorax'])
def test_points_of_the_spine_do_not_count(name):
    predicted = TRUE.copy()
    predicted[:, row(name)] += 100
    assert set(pckh(predicted, TRUE, HEADS, ALL).values()) == {100.0}


def test_a_head_without_a_size_is_refused():
    with pytest.raises(EvaluationError, match='is 0'):
        pckh(TRUE, TRUE, 0 * HEADS, ALL)
