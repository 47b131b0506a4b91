# SPDX-License-Identifier: Apache-2.0
"""What lenses, sensors and codecs do to a picture."""

from __future__ import annotations

import cv2
import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def _look_up(
        image: np.ndarray, table: np.ndarray, grain: np.ndarray, start: int,
        strength: float) -> None:
    """Apply `table` (256, 3) to `image` (H, W, 3) and add noise from `grain`, in place."""
    flat, span = image.reshape(-1, 3), grain.shape[0]
    position = start
    for i in range(flat.shape[0]):
        for k in range(3):
            value = table[flat[i, k], k]
            if strength > 0.0:
                value += strength * grain[position]
                position += 1
                if position == span:
                    position = 0
            flat[i, k] = 0 if value < 0 else (255 if value > 255 else np.uint8(value))


class Grain:
    """A long strip of normal noise, read from random places: much cheaper than drawing it."""

    def __init__(self, rng: np.random.Generator, length: int = 1 << 20) -> None:
        self._strip = rng.normal(size=length).astype(np.float32)

    def finish(
            self, rng: np.random.Generator, image: np.ndarray, table: np.ndarray,
            strength: float) -> None:
        """Apply a colour `table` (256, 3) float32 and noise of `strength` grey levels, in place."""
        _look_up(image, table, self._strip, int(rng.integers(len(self._strip))), strength)


def colour_table(rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
    """Draw exposure, white balance, contrast and gamma as a table `(256, 3)` float32."""
    x = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    gain = np.exp(rng.normal(0, 0.11 * spread)) * rng.normal(1, 0.04 * spread, 3)
    x = np.clip(x * np.float32(gain), 0, None) ** np.float32(np.exp(rng.normal(0, 0.13 * spread)))
    contrast = np.float32(np.exp(rng.normal(0, 0.12 * spread)))
    lift = rng.normal(0, 8 * spread)
    return ((x - 0.45) * contrast + 0.45) * 255 + np.float32(lift)


def blur(rng: np.random.Generator, image: np.ndarray, most: float) -> np.ndarray:
    """Defocus or motion blur of up to `most` pixels."""
    if rng.random() < 0.6:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, max(0.35, most)))
    length = int(rng.integers(2, max(3, int(3 * most)) + 1)) | 1
    kernel = np.zeros((length, length), np.float32)
    angle, half = rng.uniform(0, np.pi), length // 2
    end = np.round(half * np.float64([np.cos(angle), np.sin(angle)])).astype(int)
    cv2.line(kernel, tuple(int(v) for v in half - end), tuple(int(v) for v in half + end), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def coarsen(rng: np.random.Generator, image: np.ndarray, fewest: int) -> np.ndarray:
    """
    Scale down to a height between `fewest` pixels and the whole and back, as distant people are
    seen.
    """
    height, width = image.shape[:2]
    most = 0.8 * height
    small = int(np.exp(rng.uniform(np.log(min(fewest, most)), np.log(most))))
    how = (cv2.INTER_AREA, cv2.INTER_LINEAR)[int(rng.random() < 0.4)]
    less = cv2.resize(image, (round(small * width / height), small), interpolation=how)
    back = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.random() < 0.4)]
    return cv2.resize(less, (width, height), interpolation=back)


def sharpen(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Exaggerate edges, as cheap cameras do."""
    soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 1.6))
    strength = rng.uniform(0.3, 1.5)
    return cv2.addWeighted(image, 1 + strength, soft, -strength, 0)


def compress(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """JPEG there and back, quality 15 to 90."""
    quality = int(rng.integers(15, 91))
    code = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(code, cv2.IMREAD_COLOR)
