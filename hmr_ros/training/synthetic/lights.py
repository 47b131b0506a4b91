# SPDX-License-Identifier: Apache-2.0
"""Sun, sky and lamps, drawn at random in the axes of the camera."""

from __future__ import annotations

import numpy as np

from hmr_ros.training.synthetic.shading import (
    GROUND, KEY, KEY_COLOUR, LIGHT_ROWS, SKY, STRENGTHS, UP)


def tone_curve() -> np.ndarray:
    """Pixel values `(1024,)` uint8 of linear light 0..1: the sRGB curve, near enough."""
    return np.round(255 * np.linspace(0, 1, 1024) ** (1 / 2.2)).astype(np.uint8)


def draw_light(rng: np.random.Generator, up: np.ndarray) -> np.ndarray:
    """
    Draw a light table `(6, 3)` float32 (rows as `shading` names them).

    `up` (3,) is the vertical in optical axes.
    """
    light = np.zeros((LIGHT_ROWS, 3))
    side = np.cross(up, rng.normal(size=3))
    side /= np.linalg.norm(side) + 1e-9
    elevation = np.radians(rng.uniform(12, 85))
    light[KEY] = np.cos(elevation) * side + np.sin(elevation) * up
    # overcast days have hardly any key light, spotlights and suns hardly anything else
    share = rng.uniform(0.15, 0.85)
    warmth = rng.normal(0, 0.08)
    light[KEY_COLOUR] = 1.5 * share * np.float64([1 + warmth, 1, 1 - warmth])
    light[SKY] = (1 - share) * np.float64([1 - warmth, 1, 1 + warmth]) + 0.12
    light[GROUND] = light[SKY] * rng.uniform(0.25, 0.8) * rng.uniform(0.85, 1.15, 3)
    light[UP] = up
    light[STRENGTHS] = rng.uniform(0.45, 1.0), 1.0, np.exp(rng.normal(0.0, 0.22))
    return light.astype(np.float32)


def soften(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a light table as under clouds: what the lamp gives comes from the sky instead."""
    light, kept = light.copy(), rng.uniform(0.05, 0.3)
    light[SKY] += 0.7 * (1 - kept) * light[KEY_COLOUR]
    light[GROUND] = light[SKY] * rng.uniform(0.35, 0.7)
    light[KEY_COLOUR] *= kept
    return light


def shadow_view(light: np.ndarray, vertices: np.ndarray, size: int) -> np.ndarray:
    """
    Map `(3, 4)` float32 from camera points to shadow-map column, row and closeness.

    The map of `size` pixels just holds all `vertices` (V, 3).
    """
    key = light[KEY].astype(np.float64)
    right = np.cross(key, [0.31, 0.82, 0.47])
    right /= np.linalg.norm(right)
    down = np.cross(-key, right)
    axes = np.stack([right, down, key])
    spread = vertices @ axes.T
    low, high = spread.min(axis=0), spread.max(axis=0)
    scale = (size - 3) / max(high[0] - low[0], high[1] - low[1])
    axes[:2] *= scale
    offset = np.float64([1 - low[0] * scale, 1 - low[1] * scale, 1 - low[2]])
    return np.concatenate([axes, offset[:, None]], axis=1).astype(np.float32)
