# SPDX-License-Identifier: Apache-2.0
"""Parts of the small files that the dataset tests make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture()
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture()
def write_video() -> Callable[[Path, int], None]:
    """Write a film of 64 x 48 pixels, frame i of which has the brightness 20 * i."""
    def write(path: Path, frames: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        code = {'.avi': 'MJPG', '.mp4': 'mp4v'}[path.suffix]
        video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 25, (64, 48))
        assert video.isOpened()
        for frame in range(frames):
            video.write(np.full((48, 64, 3), 20 * frame, np.uint8))
        video.release()
    return write


@pytest.fixture()
def points_before(rng: np.random.Generator) -> Callable[[int, int], np.ndarray]:
    """Points `(frames, joints, 3)` in metres, all before the camera and inside 64 x 48 pixels."""
    def make(frames: int, joints: int) -> np.ndarray:
        return rng.uniform((-1, -1, 4), (1, 1, 6), (frames, joints, 3))
    return make
