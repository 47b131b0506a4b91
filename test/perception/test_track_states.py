# SPDX-License-Identifier: Apache-2.0
"""States are forgotten after a gap, when stamps go back, and when there are too many."""

from hypothesis import given, settings, strategies as st

from hmr_ros.perception.track_states import TrackStates

IDS = st.sampled_from(['p1', 'p2', 'p3', 'p4', 'p5'])


def test_a_gap_forgets_and_a_short_one_does_not():
    states = TrackStates(0.5, 8)
    states.start_frame(10.0)
    states.keep('p1', 'old')
    states.start_frame(10.5)
    assert states['p1'].state == 'old' and states['p1'].stamp_s == 10.0
    states.start_frame(10.51)
    assert states['p1'] is None and len(states) == 0


def test_stamps_that_go_back_forget_everything():
    states = TrackStates(0.5, 8)
    states.start_frame(10.0)
    states.keep('p1', 1)
    states.start_frame(10.0)
    assert states['p1'].state == 1, 'the same stamp again is no step back'
    states.start_frame(9.9)
    assert states['p1'] is None and states.rewinds == 1


def test_the_least_recently_seen_goes_first():
    states = TrackStates(100.0, 2)
    for stamp, name in enumerate(['p1', 'p2', 'p1', 'p3']):
        states.start_frame(stamp)
        states.keep(name, stamp)
    assert states['p2'] is None and states['p1'].state == 2 and states['p3'].state == 3


@settings(deadline=None, max_examples=60)
@given(frames=st.lists(st.tuples(st.integers(-2, 7), st.lists(IDS, max_size=5)), max_size=20))
def test_what_is_remembered_is_what_a_plain_history_says(frames):
    states, stamp, history = TrackStates(5, 3), 0, {}
    for number, (step, seen) in enumerate(frames):
        if step < 0:
            history = {}
        stamp += step
        states.start_frame(stamp)
        history = {k: v for k, v in history.items() if stamp - v[0] <= 5}
        for name in seen:
            states.keep(name, number)
            history.pop(name, None)
            history[name] = (stamp, number)
            history = dict(list(history.items())[-3:])
        assert len(states) == len(history) <= 3
        for name, (last, value) in history.items():
            assert (states[name].stamp_s, states[name].state) == (last, value)
