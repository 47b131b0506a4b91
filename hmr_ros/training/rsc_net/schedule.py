# SPDX-License-Identifier: Apache-2.0
"""When the rows of alpha enter training, and how self-supervision ramps up (sheet 3.4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """Steps `first` to `last` (excluded) with the first `rows` rows and batches of `batch`."""

    first: int
    last: int
    rows: int
    batch: int


#: rows, batch, and steps as a share of the length of the data.
_TABLE = ((2, 32, 1 / 64), (3, 16, 1 / 32), (4, 10, 3 / 64), (5, 10, 1 / 10))
#: self-supervision is at full weight after this share of the length of the data.
_RAMP = 5 / 32


@dataclass(frozen=True)
class Schedule:
    """Stages in order, and the steps until self-supervision counts in full."""

    stages: tuple[Stage, ...]
    ramp_steps: int

    @property
    def steps(self) -> int:
        """All of them."""
        return self.stages[-1].last

    def stage(self, step: int) -> Stage:
        """Return the stage of `step`; the last one for all that come after."""
        return next((stage for stage in self.stages if step < stage.last), self.stages[-1])

    def entering(self, step: int) -> range:
        """Return the rows that enter training at `step`, row 0 aside: it is there from nothing."""
        before = max([stage.rows for stage in self.stages if stage.first < step], default=1)
        after = max([stage.rows for stage in self.stages if stage.first <= step])
        return range(before, after)

    def ramp(self, step: int) -> float:
        """Share 0 to 1 of the self-supervision at `step`."""
        return min(1.0, step / self.ramp_steps) if self.ramp_steps else 1.0


def progressive(length: int) -> Schedule:
    """Return the sheet's schedule for data of `length` samples: a new row every epoch."""
    stages, first = [], 0
    for rows, batch, share in _TABLE:
        last = first + round(share * length)
        stages.append(Stage(first, last, rows, batch))
        first = last
    return Schedule(tuple(stages), round(_RAMP * length))


def at_once(length: int, rows: int) -> Schedule:
    """Return a schedule of as many steps with `rows` rows from the start, and the same ramp."""
    whole = progressive(length)
    return Schedule((Stage(0, whole.steps, rows, _TABLE[-1][1]),), whole.ramp_steps)
