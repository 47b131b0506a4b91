# SPDX-License-Identifier: Apache-2.0
"""What the demo leaves to look at: a video at the clip's own pace, and a contact sheet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hmr_ros.body import BodyModel
from hmr_ros.demo.errors import DemoError
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.overlay import OverlayRenderer, OverlayStyle

SHEET_COLUMNS, SHEET_ROWS, SHEET_WIDTH = 3, 4, 480


class VideoFile:
    """
    A video whose frames appear at their own times, as in the source.

    A frame stays until the next one; frames that the pipeline dropped leave no gap in time.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        """Write to `path` (.mp4) with `rate_hz` frames per second."""
        self._path, self._rate_hz = path, rate_hz
        self._writer: cv2.VideoWriter | None = None
        self._first_s = 0.0
        self._written = 0
        self._last: np.ndarray | None = None

    def add(self, image_bgr: np.ndarray, stamp_s: float) -> None:
        """Add a frame, uint8 `(H, W, 3)`, whose time is `stamp_s`; frames before it are kept."""
        if self._writer is None:
            self._open(image_bgr.shape)
            self._first_s = stamp_s
        due = round((stamp_s - self._first_s) * self._rate_hz)
        for _ in range(due - self._written):
            self._put(self._last)
        if due >= self._written:
            self._put(image_bgr)
            self._last = image_bgr

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()

    def _put(self, image: np.ndarray) -> None:
        self._writer.write(image)
        self._written += 1

    def _open(self, shape: tuple[int, ...]) -> None:
        self._writer = cv2.VideoWriter(
            str(self._path), cv2.VideoWriter_fourcc(*'mp4v'), self._rate_hz, (shape[1], shape[0]))
        if not self._writer.isOpened():
            raise DemoError(f'{self._path} cannot be written; is its folder writable and OpenCV '
                            'built with video support?')


def write_contact_sheet(video: Path, sheet: Path) -> None:
    """
    Write `sheet` (.png) with frames spread evenly over `video`.

    Raises DemoError when the video holds no frame.
    """
    capture = cv2.VideoCapture(str(video))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(np.unique(np.linspace(0, total - 1, SHEET_COLUMNS * SHEET_ROWS).astype(int)))
    tiles = []
    for i in range(total):
        good, frame = capture.read()
        if not good:
            break
        if i in wanted:
            size = (SHEET_WIDTH, round(frame.shape[0] * SHEET_WIDTH / frame.shape[1]))
            tiles.append(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    capture.release()
    if not tiles:
        raise DemoError(f'{video} holds no frame, so there is no {sheet.name}; see the warnings '
                        'above for what the pipeline was missing')
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % SHEET_COLUMNS)
    rows = [np.hstack(tiles[i:i + SHEET_COLUMNS]) for i in range(0, len(tiles), SHEET_COLUMNS)]
    cv2.imwrite(str(sheet), np.vstack(rows))


def draw_body(body: BodyModel, path: Path) -> None:
    """Draw a body at rest from the front and from its left side into `path` (.png)."""
    height, width = 720, 640
    camera = Camera(1350.0, 1350.0, width / 2, height / 2, width, height)
    renderer = OverlayRenderer(body.faces, OverlayStyle(opacity=1.0, skeleton=0, label=0))
    upright = np.float32([[1, 0, 0], [0, -1, 0], [0, 0, -1]])
    side = np.float32([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    tiles = []
    for turned in (upright, upright @ side):
        points = body.v_template @ turned.T
        points -= 0.5 * (points.max(axis=0) + points.min(axis=0)) - np.float32([0, 0, 4])
        tiles.append(renderer.draw(
            np.full((height, width, 3), 245, np.uint8), camera, points[None], ['p3'],
            np.full((1, 24, 2), np.nan), np.full((1, 4), np.nan)))
    if not cv2.imwrite(str(path), np.hstack(tiles)):
        raise DemoError(f'{path} cannot be written; is its folder there and its ending .png?')
