# SPDX-License-Identifier: Apache-2.0
"""Ids survive misses and crossings, boxes are smooth, stamps that go back start afresh."""

import sys

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.perception.person import PersonBox
from hmr_ros.perception.tracking import PersonTracker, TrackerSettings

RATE = 10.0


def box(x, y=200.0, tall=100.0, score=0.99):
    return PersonBox(np.float32([x - 20, y - tall / 2, x + 20, y + tall / 2]), score)


def walk(tracker, frames, hidden=(), start=100.0, speed=60.0, noise=0.0, seed=0):
    """Let one person walk; return a list of (frame, boxes given out)."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(frames):
        x = start + speed * i / RATE + rng.normal(0, noise or 1e-9)
        found.append(tracker.update([] if i in hidden else [box(x)], i / RATE))
    return found


def test_one_person_one_id_after_min_hits():
    found = walk(PersonTracker(), 30)
    assert [len(boxes) for boxes in found[:3]] == [0, 0, 1]
    assert {b.track_id for boxes in found for b in boxes} == {'p1'}
    assert all(len(boxes) == 1 for boxes in found[2:])


def test_coasting_through_a_short_miss_follows_the_motion():
    found = walk(PersonTracker(), 30, hidden=range(15, 19))
    assert all(len(boxes) == 1 for boxes in found[2:])
    for i in range(15, 19):
        center = found[i][0].box[[0, 2]].mean()
        assert abs(center - (100 + 6 * i)) < 12
    assert {b.track_id for boxes in found for b in boxes} == {'p1'}


def test_long_miss_is_silent_but_keeps_the_id_and_a_longer_one_ends_it():
    found = walk(PersonTracker(TrackerSettings(max_age_s=1.2, coast_s=0.3)), 60,
                 hidden=[*range(15, 25), *range(35, 50)], speed=5)
    assert found[22] == [] and found[25][0].track_id == 'p1'
    assert found[48] == [] and found[55][0].track_id == 'p2'


def test_jitter_is_smoothed():
    found = walk(PersonTracker(), 120, noise=4.0)
    centers = np.array([boxes[0].box[[0, 2]].mean() for boxes in found[20:]])
    rng = np.random.default_rng(0)
    raw = np.array([100 + 6 * i + rng.normal(0, 4.0) for i in range(120)])[20:]
    assert np.std(np.diff(centers, 2)) < 0.5 * np.std(np.diff(raw, 2))
    assert np.abs(centers - (100 + 6 * np.arange(20, 120))).mean() < 4


def test_two_people_who_pass_each_other_keep_their_ids():
    tracker = PersonTracker()
    for i in range(60):
        pair = [box(100 + 5 * i, 200), box(400 - 5 * i, 215, 110)]
        found = tracker.update(pair[::-1] if i % 2 else pair, i / RATE)
    by_id = {b.track_id: b.box[[0, 2]].mean() for b in found}
    assert by_id['p1'] == pytest.approx(100 + 5 * 59, abs=10)
    assert by_id['p2'] == pytest.approx(400 - 5 * 59, abs=10)


def test_weak_detections_are_no_births_but_continue_a_track():
    tracker = PersonTracker()
    for i in range(10):
        assert tracker.update([box(300, score=0.6)], i / RATE) == []
    tracker = PersonTracker()
    for i in range(20):
        found = tracker.update([box(300, score=0.99 if i < 5 else 0.6)], i / RATE)
    assert found[0].track_id == 'p1' and 0.6 <= found[0].score < 0.7


def test_stamps_that_go_back_start_afresh_with_new_ids():
    tracker = PersonTracker()
    walk(tracker, 20)
    assert tracker.resets == 0
    found = walk(tracker, 20)
    assert tracker.resets == 1
    assert found[0] == [] and found[-1][0].track_id == 'p2'


@settings(deadline=None, max_examples=60)
@given(frames=st.lists(st.tuples(
    st.lists(st.tuples(*[st.one_of(st.floats(-500, 1500), st.just(float('nan')))] * 4),
             max_size=6),
    st.floats(0, 2)), max_size=12))
def test_whatever_comes_the_tracker_lives_and_stays_bounded(frames):
    tracker = PersonTracker(TrackerSettings(min_hits=1, birth_score=0, max_tracks=4))
    stamp, ids = 0.0, set()
    for boxes, step in frames:
        stamp += step - 0.3
        found = tracker.update([PersonBox(np.float32(b), float('nan')) for b in boxes], stamp)
        assert len(found) <= 4
        for person in found:
            assert np.all(np.isfinite(person.box)) and person.track_id.startswith('p')
            assert person.box[2] > person.box[0] and person.box[3] > person.box[1]
        assert len({person.track_id for person in found}) == len(found)
        ids |= {person.track_id for person in found}


def test_slow_machine_still_names_people():
    tracker = PersonTracker()
    for i in range(8):
        found = tracker.update([] if i in (1, 5) else [box(200 + 4 * i)], i / 1.8)
    assert found and found[0].track_id == 'p1'


def test_works_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'scipy.optimize', None)
    found = walk(PersonTracker(), 10)
    assert found[-1][0].track_id == 'p1'


@pytest.fixture
def walking():
    """A tracker that has seen one person walk for two seconds, and where they are then."""
    tracker = PersonTracker()
    walk(tracker, 20)
    return tracker, 19 / RATE, 100 + 60 * 19 / RATE


def test_a_forecast_is_what_the_tracker_says_when_nothing_is_found(walking):
    tracker, now, _ = walking
    for ahead in (0.0, 0.05, 0.3):
        forecast = tracker.forecast().at(now + ahead)
        fresh = PersonTracker()
        walk(fresh, 20)
        updated = fresh.update([], now + ahead)
        np.testing.assert_array_equal(forecast[0].box, updated[0].box)
        assert (forecast[0].track_id, forecast[0].score) == (
            updated[0].track_id, updated[0].score)


def test_a_forecast_follows_the_motion_until_it_is_too_old(walking):
    tracker, now, place = walking
    forecast = tracker.forecast()
    for ahead in (0.1, 0.3, 1.0):
        center = forecast.at(now + ahead)[0].box[[0, 2]].mean()
        assert center == pytest.approx(place + 60 * ahead, abs=6)
    assert forecast.at(now + 1.4) and forecast.at(now + 1.6) == []
    assert forecast.at(now - 0.01) is None, 'stamps went back'


def test_who_is_not_given_out_any_more_is_not_foretold_either(walking):
    tracker, now, _ = walking
    assert tracker.update([], now + 0.5) and tracker.forecast().at(now + 0.5)
    assert not tracker.update([], now + 0.7) and not tracker.forecast().at(now + 0.7)


def test_a_forecast_stays_as_it_was_while_the_tracker_goes_on(walking):
    tracker, now, _ = walking
    forecast = tracker.forecast()
    before = forecast.at(now + 0.2)[0].box
    for step in range(1, 5):
        tracker.update([], now + step / RATE)
    np.testing.assert_array_equal(forecast.at(now + 0.2)[0].box, before)
    assert forecast.at(now + 0.2)[0].track_id == 'p1'


def test_nobody_without_a_name_is_foretold():
    tracker = PersonTracker()
    walk(tracker, 2)
    assert tracker.forecast().at(1.0) == []
