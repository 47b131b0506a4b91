# SPDX-License-Identifier: Apache-2.0
"""One crop at several resolutions, as the image network is trained on it (sheet 1.3, 3.5)."""

from __future__ import annotations

import cv2
import numpy as np

from hmr_ros.perception.resampling import resize

#: native sides that training draws for each row of alpha, both included; row 0 is not resampled.
DRAWN = ((224, 224), (128, 223), (64, 127), (40, 63), (24, 39))
#: native sides that stand for the rows when errors are measured.
MIDPOINTS = (224, 176, 96, 52, 32)
_LEAST_GAIN, _MOST_GAIN = 0.6, 1.4
_JITTER = 0.4


def degraded(image: np.ndarray, side: int) -> np.ndarray:
    """
    Crop `(S, S, 3)` uint8 as if its native side were `side`: down and up again, bicubic.

    What had more pixels than S lost them when the crop was made.
    """
    size = len(image)
    return image if side >= size else resize(resize(image, side), size)


def versions(image: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """
    One version `(rows, S, S, 3)` uint8 for each of the first `rows` rows of alpha.

    Each has a native side drawn from its range, and colours of its own.
    """
    found = []
    for fewest, most in DRAWN[:rows]:
        side = int(rng.integers(fewest, most + 1))
        found.append(_jittered(degraded(_gained(image, rng), side), rng))
    return np.stack(found)


def _gained(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each channel brighter or darker, from the untouched image: gains do not compound."""
    gain = rng.uniform(_LEAST_GAIN, _MOST_GAIN, 3).astype(np.float32)
    return np.clip(image * gain, 0, 255).astype(np.uint8)


def _jittered(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and saturation, each every other time, in random order."""
    image = image.astype(np.float32)
    for which in rng.permutation(3):
        if rng.random() < 0.5:
            continue
        factor = rng.uniform(1 - _JITTER, 1 + _JITTER)
        image = np.clip(_anchor(image, which) * (1 - factor) + image * factor, 0, 255)
    return image.astype(np.uint8)


def _anchor(image: np.ndarray, which: int) -> np.ndarray:
    """What factor 0 of brightness, contrast or saturation would leave."""
    if which == 0:
        return np.zeros((), np.float32)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey.mean() if which == 1 else grey[..., None]
