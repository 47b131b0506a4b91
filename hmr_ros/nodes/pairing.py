# SPDX-License-Identifier: Apache-2.0
"""Joins two streams of messages by exact stamp, whichever arrives first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from builtin_interfaces.msg import Time

First = TypeVar('First')
Second = TypeVar('Second')


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
        # A gap of one second cannot be two messages that overtook each other.
        if key < self._newest - 1_000_000_000:
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
