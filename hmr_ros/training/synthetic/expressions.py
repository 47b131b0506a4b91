# SPDX-License-Identifier: Apache-2.0
"""Faces: jaws and coefficients of expression of the open whole body."""

from __future__ import annotations

import numpy as np

from hmr_ros.body.build_face import SYMMETRIC, UNITS

_UNIT = {name: row for row, name in enumerate(UNITS)}
#: what a mirror does to each coefficient.
MIRROR = np.where(np.arange(len(UNITS)) < SYMMETRIC, 1, -1).astype(np.float32)
#: widest open mouth, radians.
WIDEST = 0.45


def sample_jaws(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw rotation vectors of the jaw `(count, 3)` float32: half of the mouths are shut."""
    kind = rng.choice(3, count, p=[0.5, 0.33, 0.17])
    wide = np.choose(kind, [np.abs(rng.normal(0, 0.015, count)), rng.uniform(0.03, 0.2, count),
                            rng.uniform(0.2, WIDEST, count)])
    aside = np.clip(rng.normal(0, 0.025, count), -0.08, 0.08)
    return np.stack([wide, aside, np.zeros(count)], axis=1).astype(np.float32)


def sample_expressions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw coefficients of expression `(count, 10)` float32; a quarter of the faces is neutral."""
    def normal(mean: float, spread: float, low: float, high: float) -> np.ndarray:
        return np.clip(rng.normal(mean, spread, count), low, high)

    def seldom(share: float, otherwise: np.ndarray) -> np.ndarray:
        return np.where(rng.random(count) < share, rng.uniform(0.5, 2.0, count), otherwise)

    out = np.zeros((count, len(UNITS)))
    out[:, _UNIT['smile']] = normal(0.4, 0.8, -1.2, 2.0)
    out[:, _UNIT['lips apart']] = np.abs(normal(0, 0.6, -1.6, 1.6))
    out[:, _UNIT['pucker']] = seldom(0.15, normal(0, 0.3, -1.0, 1.0))
    out[:, _UNIT['brows up']] = normal(0, 0.9, -2.0, 2.0)
    out[:, _UNIT['squint']] = np.abs(normal(0, 0.5, -1.6, 1.6))
    out[:, _UNIT['cheeks puffed']] = seldom(0.06, normal(0, 0.15, -0.4, 0.4))
    out[:, _UNIT['mouth to the left']] = normal(0, 0.35, -1.2, 1.2)
    out[:, _UNIT['left smile']] = normal(0, 0.4, -1.2, 1.2)
    out *= np.where(rng.random(count) < 0.25, 0.15, 1.0)[:, None]
    left, right = _lids(rng, count)
    out[:, _UNIT['eyes closed']], out[:, _UNIT['left eye closed']] = left + right, left - right
    return out.astype(np.float32)


def _lids(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """How far the left and the right eye are shut, 0 to 1 and a little below."""
    kind = rng.choice(3, count, p=[0.72, 0.16, 0.12])
    left = np.choose(kind, [rng.uniform(-0.1, 0.2, count), rng.uniform(0.2, 0.9, count),
                            rng.uniform(0.9, 1.0, count)])
    right, winks = left.copy(), rng.random(count)
    right[winks < 0.02] = 1.0
    left[winks > 0.98] = 1.0
    return left, right
