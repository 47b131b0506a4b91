# SPDX-License-Identifier: Apache-2.0
"""Other detectors' messages to person boxes, with stand-ins for the messages of vision_msgs."""

from __future__ import annotations

import math
import sys
from types import ModuleType, SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from hmr_ros.nodes.detections import detection_array_type, people_from_detections
from hmr_ros.nodes.errors import NodeError

REALS = st.floats(-1e4, 1e4, width=32)
SIZES = st.floats(0.125, 1e4, width=32)


def detection(x=100.0, y=80.0, size_x=40.0, size_y=90.0, theta=0.0, track_id='', **scores):
    """Return a detection; `scores` are its hypotheses, by class id."""
    results = [SimpleNamespace(hypothesis=SimpleNamespace(class_id=class_id, score=score))
               for class_id, score in (scores or {'person': 0.75}).items()]
    center = SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=theta)
    return SimpleNamespace(
        id=track_id, results=results,
        bbox=SimpleNamespace(center=center, size_x=size_x, size_y=size_y))


def read(*detections, class_ids=('person',), min_score=0.0):
    return people_from_detections(SimpleNamespace(detections=detections), class_ids, min_score)


@settings(max_examples=50, deadline=None)
@given(REALS, REALS, SIZES, SIZES)
def test_centre_and_size_become_corners(x, y, size_x, size_y):
    box, = read(detection(x, y, size_x, size_y)).boxes
    assert box.box.dtype == np.float32 and (box.score, box.track_id) == (0.75, '')
    x0, y0, x1, y1 = box.box
    np.testing.assert_allclose([(x0 + x1) / 2, (y0 + y1) / 2], [x, y], atol=2e-3)
    np.testing.assert_allclose([x1 - x0, y1 - y0], [size_x, size_y], atol=2e-3)


def test_the_best_hypothesis_is_what_it_is():
    found = read(detection(person=0.4, dog=0.3), detection(person=0.2, dog=0.7),
                 detection(**{'0': 0.9}), SimpleNamespace(results=[]))
    assert [box.score for box in found.boxes] == [0.4]
    assert found.others == {'dog', '0', ''} and not found.skipped
    assert len(read(detection(), detection(**{'0': 0.9}), class_ids=['0', 'person']).boxes) == 2


def test_scores_below_the_limit_are_left_out_and_unknown_ones_are_not():
    scores = [0.3, 0.5, math.nan, 7.0]
    found = read(*(detection(person=score) for score in scores), min_score=0.5)
    np.testing.assert_array_equal([box.score for box in found.boxes], [0.5, math.nan, 1.0])


@pytest.mark.parametrize('given_id, expected', [
    ('', ''), ('7', 'p7'), ('person_3', 'person_3'), ('_2', 'p_2'), ('ä1', 'pä1')])
def test_ids_start_with_a_letter(given_id, expected):
    assert read(detection(track_id=given_id)).boxes[0].track_id == expected


@pytest.mark.parametrize('changes, words', [
    ({'theta': 0.3}, ['center.theta is 0.3', 'expected 0', 'image axes']),
    ({'theta': math.nan}, ['center.theta is nan']),
    ({'size_x': 0.0}, ['0 x 90 pixels at 100, 80', 'an area']),
    ({'size_y': -5.0}, ['40 x -5 pixels']),
    ({'x': math.inf}, ['at inf, 80', 'finite']),
    ({'y': 1e300}, ['1e+300', 'finite']),
])
def test_a_box_that_cannot_be_used_is_skipped_with_its_reason(changes, words):
    found = read(detection(), detection(**changes), detection(dog=0.9, **changes))
    assert len(found.boxes) == len(found.skipped) == 1
    assert all(word in found.skipped[0] for word in ['detection 1', *words]), found.skipped


def test_vision_msgs_is_looked_for_only_when_asked(monkeypatch):
    stand_in = ModuleType('vision_msgs.msg')
    stand_in.Detection2DArray = type('Detection2DArray', (), {})
    monkeypatch.setitem(sys.modules, 'vision_msgs', ModuleType('vision_msgs'))
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', stand_in)
    assert detection_array_type() is stand_in.Detection2DArray


def test_without_vision_msgs_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'vision_msgs', None)
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', None)
    with pytest.raises(NodeError, match=r'apt install ros-\$ROS_DISTRO-vision-msgs'):
        detection_array_type()
