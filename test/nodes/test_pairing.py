# SPDX-License-Identifier: Apache-2.0
"""Exact pairing by stamp."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
from builtin_interfaces.msg import Time  # noqa: E402

from hmr_ros.nodes.pairing import CompanionPairing, ExactPairing  # noqa: E402

pytestmark = pytest.mark.ros


def test_partners_meet_in_either_order_and_only_once():
    pairing = ExactPairing(3)
    assert pairing.add_first(Time(sec=1), 'a') is None
    assert pairing.add_second(Time(sec=1), 'b') == ('a', 'b')
    assert pairing.add_second(Time(sec=1), 'b') is None
    assert pairing.add_second(Time(sec=2, nanosec=1), 'c') is None
    assert pairing.add_first(Time(sec=2, nanosec=0), 'd') is None
    assert pairing.add_first(Time(sec=2, nanosec=1), 'e') == ('e', 'c')


def test_what_finds_no_partner_is_counted_and_forgotten():
    pairing = ExactPairing(2)
    for sec in range(5):
        assert pairing.add_second(Time(sec=sec), sec) is None
    assert pairing.lost == 3
    assert pairing.add_first(Time(sec=2), 'late') is None
    assert pairing.add_first(Time(sec=4), 'in time') == ('in time', 4)


def test_stamps_that_go_back_start_afresh():
    pairing = ExactPairing(5)
    pairing.add_first(Time(sec=100), 'old')
    assert pairing.add_first(Time(sec=1), 'new') is None
    assert pairing.rewinds == 1
    assert pairing.add_second(Time(sec=1), 'box') == ('new', 'box')
    pairing.add_first(Time(sec=1, nanosec=500), 'next')
    assert pairing.rewinds == 1


def at(number):
    return Time(sec=100 + number)


def test_frames_go_on_at_once_while_no_companions_come():
    pairing = CompanionPairing(3)
    for number in range(8):
        assert pairing.add_frame(at(number), number) == [(number, None)]
        assert not pairing.is_waiting


def test_frames_wait_for_companions_that_come():
    pairing = CompanionPairing(3)
    assert pairing.add_companion(at(0), 'zero') == []
    assert pairing.add_frame(at(0), 0) == [(0, 'zero')]
    assert pairing.add_frame(at(1), 1) == [] and pairing.is_waiting
    assert pairing.add_frame(at(2), 2) == []
    assert pairing.add_companion(at(1), 'one') == [(1, 'one')]
    assert pairing.add_companion(at(2), 'two') == [(2, 'two')] and not pairing.is_waiting
    assert pairing.add_companion(at(3), 'three') == []
    assert pairing.add_frame(at(3), 3) == [(3, 'three')]


def test_a_companion_of_a_later_frame_ends_the_waiting():
    pairing = CompanionPairing(3)
    pairing.add_companion(at(0), 'zero')
    assert pairing.add_frame(at(1), 1) == pairing.add_frame(at(2), 2) == []
    assert pairing.add_companion(at(2), 'two') == [(1, None), (2, 'two')]
    assert pairing.add_frame(at(1), 1) == [(1, None)], 'its companion cannot come any more'


def test_many_frames_alone_end_the_waiting_for_good():
    pairing = CompanionPairing(2)
    pairing.add_companion(at(0), 'zero')
    assert pairing.add_frame(at(1), 1) == pairing.add_frame(at(2), 2) == []
    assert pairing.add_frame(at(3), 3) == [(1, None), (2, None), (3, None)]
    assert pairing.add_frame(at(4), 4) == [(4, None)]
    pairing.add_companion(at(5), 'five')
    assert pairing.add_frame(at(6), 6) == [], 'they came again'


def test_the_end_of_companions_ends_the_waiting():
    pairing = CompanionPairing(9)
    pairing.add_companion(at(0), 'zero')
    pairing.add_frame(at(1), 1)
    assert pairing.end() == [(1, None)]
    assert pairing.add_frame(at(2), 2) == [(2, None)] and pairing.end() == []


def test_companions_of_a_recording_that_begins_again_are_those_of_now():
    pairing = CompanionPairing(9)
    pairing.add_companion(at(50), 'old')
    pairing.add_frame(at(51), 51)
    assert pairing.add_companion(at(1), 'new') == [(51, None)]
    assert pairing.add_frame(at(1), 1) == [(1, 'new')]
    assert pairing.add_frame(at(2), 2) == []
    assert pairing.add_companion(at(50), 'again') == [(2, None)]
    assert pairing.add_frame(at(50), 50) == [(50, 'again')]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=40), st.integers(1, 4))
def test_no_frame_is_lost_doubled_or_given_a_foreign_companion(events, capacity):
    pairing, given_back, frames = CompanionPairing(capacity), [], []
    for place, (is_frame, number) in enumerate(events):
        if is_frame:
            frames.append((place, number))
            given_back += pairing.add_frame(at(number), (place, number))
        else:
            given_back += pairing.add_companion(at(number), number)
    given_back += pairing.end()
    assert all(companion in (None, frame[1]) for frame, companion in given_back)
    assert sorted(frame for frame, _ in given_back) == frames
