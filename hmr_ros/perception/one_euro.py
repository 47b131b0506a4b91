# SPDX-License-Identifier: Apache-2.0
"""
One-Euro filters on vectors and on rotations (Casiez, Roussel and Vogel, CHI 2012).

A low-pass whose cutoff rises with the filtered speed: steady when still, quick when moving. Times
are seconds, so that frames may come irregularly. Rotations are filtered along the geodesic between
unit quaternions: numbers of axis-angle vectors jump where the angle passes pi.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hmr_ros.perception.rotations import (
    axis_angle_to_quaternion, quaternion_conjugate, quaternion_product, quaternion_to_axis_angle)


@dataclass(frozen=True)
class OneEuroSettings:
    """
    How a filter trades steadiness for lag.

    min_cutoff_hz    cutoff frequency of something that stands still
    speed_weight     Hz that the cutoff rises for each unit of speed: rad/s or m/s. The lag behind a
                     steady motion stays below 1 / (2 pi speed_weight) rad or m
    speed_cutoff_hz  cutoff frequency of the speed's own low-pass
    """

    min_cutoff_hz: float
    speed_weight: float = 0.0
    speed_cutoff_hz: float = 1.0


class Space(Protocol):
    """Where values live: how far apart two are, and what lies so far from one."""

    def difference(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the tangent vectors `(..., D)` that lead from `start` to `end`."""
        ...

    def moved(self, start: np.ndarray, tangent: np.ndarray) -> np.ndarray:
        """Return what lies at `tangent` from `start`."""
        ...


class VectorSpace:
    """Vectors `(..., D)`."""

    def difference(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Subtract."""
        return end - start

    def moved(self, start: np.ndarray, tangent: np.ndarray) -> np.ndarray:
        """Add."""
        return start + tangent


class RotationSpace:
    """Unit quaternions `(..., 4)` (w, x, y, z); tangents are rotation vectors in the own axes."""

    def difference(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the shortest turn, 0 to pi."""
        return quaternion_to_axis_angle(quaternion_product(quaternion_conjugate(start), end))

    def moved(self, start: np.ndarray, tangent: np.ndarray) -> np.ndarray:
        """Turn; lengths are kept at 1."""
        moved = quaternion_product(start, axis_angle_to_quaternion(tangent))
        return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


VECTORS, ROTATIONS = VectorSpace(), RotationSpace()


@dataclass(frozen=True)
class OneEuroState:
    """
    What a filter remembers; arrays float64.

    raw       (..., D)  the last input
    smoothed  (..., D)  the last output
    speed     (..., T)  filtered velocity of the input, per second
    """

    raw: np.ndarray
    smoothed: np.ndarray
    speed: np.ndarray

    @property
    def is_finite(self) -> bool:
        """Whether every number is finite."""
        return all(np.isfinite(a).all() for a in (self.raw, self.smoothed, self.speed))


def begin(value: np.ndarray, space: Space) -> OneEuroState:
    """Start a filter at `value`, at rest."""
    value = np.asarray(value, np.float64)
    return OneEuroState(value, value, np.zeros_like(space.difference(value, value)))


def advance(
        state: OneEuroState, value: np.ndarray, step_s: float, settings: OneEuroSettings,
        space: Space) -> OneEuroState:
    """
    Take the next value, `step_s` > 0 seconds after the last one.

    Each vector `(D,)` along the last axis has one cutoff of its own.
    """
    value = np.asarray(value, np.float64)
    velocity = space.difference(state.raw, value) / step_s
    share = _share(step_s, settings.speed_cutoff_hz)
    speed = state.speed + share * (velocity - state.speed)
    cutoff_hz = settings.min_cutoff_hz + settings.speed_weight * np.linalg.norm(
        speed, axis=-1, keepdims=True)
    way = space.difference(state.smoothed, value)
    smoothed = space.moved(state.smoothed, _share(step_s, cutoff_hz) * way)
    return OneEuroState(value, smoothed, speed)


def _share(step_s: float, cutoff_hz: float | np.ndarray) -> float | np.ndarray:
    """Return how much of a difference a first-order low-pass makes up for in `step_s`."""
    turn = 2 * np.pi * cutoff_hz * step_s
    return turn / (1 + turn)
