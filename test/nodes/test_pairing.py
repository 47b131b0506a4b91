# SPDX-License-Identifier: Apache-2.0
"""Exact pairing by stamp."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
from builtin_interfaces.msg import Time  # noqa: E402

from hmr_ros.nodes.pairing import ExactPairing  # noqa: E402

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
