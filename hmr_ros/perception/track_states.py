# SPDX-License-Identifier: Apache-2.0
"""What is remembered of each track from frame to frame, and when it is forgotten."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

State = TypeVar('State')


@dataclass(frozen=True)
class Remembered(Generic[State]):
    """A state and the stamp in seconds of the frame that left it."""

    state: State
    stamp_s: float


class TrackStates(Generic[State]):
    """
    One state per track id, never more than `max_tracks` of them (rsc_net sheet, section 2.4).

    A track that was not seen for longer than `max_gap_s` seconds is forgotten, and all tracks are
    when stamps go back: a recording that starts again must not know its own future. When there
    are too many tracks, the least recently seen goes. `rewinds` counts how often stamps went back.
    """

    def __init__(self, max_gap_s: float, max_tracks: int) -> None:
        self.max_gap_s = max_gap_s
        self.max_tracks = max_tracks
        self.rewinds = 0
        self._stamp_s = float('-inf')
        # Least recently seen first.
        self._states: OrderedDict[str, Remembered[State]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many tracks are remembered."""
        return len(self._states)

    def __getitem__(self, track_id: str) -> Remembered[State] | None:
        """Return what is remembered of a track; None when it starts afresh."""
        return self._states.get(track_id)

    def start_frame(self, stamp_s: float) -> None:
        """Announce a frame, also one without people."""
        if stamp_s < self._stamp_s:
            self.rewinds += 1
            self._states.clear()
        self._stamp_s = stamp_s
        while self._states and stamp_s - self._oldest_s > self.max_gap_s:
            self._states.popitem(last=False)

    def keep(self, track_id: str, state: State) -> None:
        """Remember a track as the announced frame left it."""
        self._states[track_id] = Remembered(state, self._stamp_s)
        self._states.move_to_end(track_id)
        while len(self._states) > self.max_tracks:
            self._states.popitem(last=False)

    def forget(self, track_id: str) -> None:
        """Let a track start afresh."""
        self._states.pop(track_id, None)

    def clear(self) -> None:
        """Forget all tracks and the last stamp."""
        self._states.clear()
        self._stamp_s = float('-inf')

    @property
    def _oldest_s(self) -> float:
        return next(iter(self._states.values())).stamp_s
