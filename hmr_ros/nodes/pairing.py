# SPDX-License-Identifier: Apache-2.0
"""Joins two streams of messages by exact stamp, whichever arrives first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from builtin_interfaces.msg import Time

First = TypeVar('First')
Second = TypeVar('Second')
# A gap that cannot be two messages that overtook each other.
REWIND_NS = 1_000_000_000


def nanoseconds(stamp: Time) -> int:
    """Return a stamp as one number."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


class ExactPairing(Generic[First, Second]):
    """
    Keeps the newest `capacity` messages of each stream until their partner arrives.

    `lost` counts messages of the second stream whose partner never came. When stamps go back (a
    bag starts again, a simulation is reset) everything kept is forgotten and `rewinds` counts it.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._first: OrderedDict[int, First] = OrderedDict()
        self._second: OrderedDict[int, Second] = OrderedDict()
        self._newest = 0
        self.lost = 0
        self.rewinds = 0

    def add_first(self, stamp: Time, message: First) -> tuple[First, Second] | None:
        """Take a message of the first stream; returns the pair when it is complete."""
        key = nanoseconds(stamp)
        if key < self._newest - REWIND_NS:
            self.clear()
            self.rewinds += 1
        self._newest = max(self._newest, key)
        if key in self._second:
            return message, self._second.pop(key)
        self._keep(self._first, key, message)
        return None

    def add_second(self, stamp: Time, message: Second) -> tuple[First, Second] | None:
        """Take a message of the second stream; returns the pair when it is complete."""
        key = nanoseconds(stamp)
        if key in self._first:
            return self._first.pop(key), message
        self.lost += self._keep(self._second, key, message)
        return None

    def clear(self) -> None:
        """Forget what is kept."""
        self.lost += len(self._second)
        self._first.clear()
        self._second.clear()
        self._newest = 0

    def _keep(self, kept: OrderedDict, key: int, message: object) -> int:
        kept[key] = message
        evicted = len(kept) > self._capacity
        if evicted:
            kept.popitem(last=False)
        return int(evicted)


class CompanionPairing(Generic[First, Second]):
    """
    Joins a stream of frames with companions that may not be there, by exact stamp.

    A frame waits for its companion only while companions come, until one of a later frame does,
    and at most until `capacity` newer frames have come. When that many in a row stay alone, or
    after `end`, nothing waits any more until the next companion. Both methods return what is
    complete now, in order: frames with their companion, or None.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: OrderedDict[int, First] = OrderedDict()
        self._companions: OrderedDict[int, Second] = OrderedDict()
        self._newest: int | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a frame waits."""
        return bool(self._waiting)

    def add_frame(self, stamp: Time, frame: First) -> list[tuple[First, Second | None]]:
        """Take a frame."""
        key = nanoseconds(stamp)
        waits = self._newest is not None and key > self._newest and key not in self._waiting
        if not waits:
            return [*self._release(), (frame, self._companions.pop(key, None))]
        self._waiting[key] = frame
        # So many without a companion: none is to be expected any more.
        return self.end() if len(self._waiting) > self._capacity else []

    def add_companion(self, stamp: Time, companion: Second) -> list[tuple[First, Second | None]]:
        """Take a companion."""
        key = nanoseconds(stamp)
        # Earlier than the last one: the recording began again.
        ready = self.end() if self._newest is not None and key < self._newest else []
        self._newest = key
        ready += [(self._waiting.pop(older), None)
                  for older in list(self._waiting) if older < key]
        if key in self._waiting:
            return [*ready, (self._waiting.pop(key), companion)]
        self._companions[key] = companion
        if len(self._companions) > self._capacity:
            self._companions.popitem(last=False)
        return ready

    def end(self) -> list[tuple[First, Second | None]]:
        """Expect no companions until the next one comes; returns what waited."""
        self._newest = None
        self._companions.clear()
        return self._release()

    def _release(self) -> list[tuple[First, Second | None]]:
        ready = [(frame, None) for frame in self._waiting.values()]
        self._waiting.clear()
        return ready
