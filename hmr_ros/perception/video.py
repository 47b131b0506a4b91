# SPDX-License-Identifier: Apache-2.0
"""Pictures with times from a video file, a camera, a network stream or a folder of pictures."""

from __future__ import annotations

import enum
from pathlib import Path
import time
from typing import Iterator

import cv2
import numpy as np

from hmr_ros.perception.errors import PerceptionError

_PICTURES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
_DEFAULT_RATE_HZ = 10.0


class SourceKind(enum.Enum):
    """What a source is, told from how it is written."""

    CAMERA = 'camera'
    STREAM = 'stream'
    FOLDER = 'folder'
    FILE = 'file'

    @property
    def live(self) -> bool:
        """Tell whether the pictures come when they come, not when they are asked for."""
        return self in (SourceKind.CAMERA, SourceKind.STREAM)


class Ending(enum.Enum):
    """What happens after the last picture of a file or folder."""

    STOP = 'stop'
    LOOP = 'loop'


def source_kind(source: str) -> SourceKind:
    """
    Tell what `source` is: digits are a camera index, `...://` a stream, else a folder or file.

    Raises PerceptionError when a path does not exist.
    """
    if source.isdigit():
        return SourceKind.CAMERA
    if '://' in source:
        return SourceKind.STREAM
    path = Path(source).expanduser()
    if path.is_dir():
        return SourceKind.FOLDER
    if path.is_file() or str(path).startswith('/dev/video'):
        return SourceKind.FILE if path.is_file() else SourceKind.CAMERA
    raise PerceptionError(
        f'video source {source!r} does not exist; give a video file, a folder of pictures, a '
        'camera index such as 0, or a stream URL')


class VideoReader:
    """
    Reads pictures one after the other.

    kind           what the source is
    frame_rate_hz  nominal pictures per second
    """

    def __init__(self, source: str | int, ending: Ending = Ending.STOP,
                 rate_hz: float | None = None) -> None:
        """
        Open a source.

        source   see `source_kind`
        ending   what happens after the last picture; live sources have none
        rate_hz  pictures per second of a folder (10 when None), or instead of the file's own rate

        Raises PerceptionError when it cannot be opened or its first picture cannot be read.
        """
        self._source = str(source)
        if rate_hz is not None and not (np.isfinite(rate_hz) and rate_hz > 0):
            raise PerceptionError(f'rate_hz is {rate_hz}; expected a positive number or None')
        self.kind = source_kind(self._source)
        self._ending = ending
        self._rate_hz = rate_hz
        self._capture: cv2.VideoCapture | None = None
        self._files: list[Path] = []
        self._index = self._loop_start = 0
        self._opened_s = 0.0
        self.frame_rate_hz = rate_hz or _DEFAULT_RATE_HZ
        self._waiting: np.ndarray | None = None
        self.reopen()

    def reopen(self) -> None:
        """Open the source again, as after a camera was lost; a file starts over."""
        self.close()
        if self.kind is SourceKind.FOLDER:
            self._open_folder()
        else:
            self._open_capture()
        self._index = self._loop_start = 0
        self._opened_s = time.monotonic()
        self._waiting = self._next()
        if self._waiting is None:
            raise PerceptionError(
                f'video source {self._source!r} holds no picture that can be read; check that it '
                'plays in another program, or convert it to MP4 (H.264) or AVI (MJPG)')

    def read(self) -> tuple[np.ndarray, float] | None:
        """
        Return the next picture, uint8 `(H, W, 3)` BGR, and its time in seconds since the start.

        Times of files and folders follow the frame rate and go on through loops; those of live
        sources are measured. None after the last picture. Raises PerceptionError when a live
        source stops giving pictures (`reopen` may bring it back) or a picture of a folder cannot
        be read.
        """
        image, self._waiting = self._waiting, None
        if image is None:
            image = self._next()
        if image is None and self._ending is Ending.LOOP and not self.kind.live:
            self._rewind()
            image = self._next()
        if image is None:
            if self.kind.live:
                raise PerceptionError(
                    f'{self.kind.value} {self._source!r} gives no pictures any more; check its '
                    'cable, power and network. It can be opened again when it is back')
            return None
        stamp_s = (time.monotonic() - self._opened_s if self.kind.live
                   else self._index / self.frame_rate_hz)
        self._index += 1
        return image, stamp_s

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        """Read until the end."""
        while (item := self.read()) is not None:
            yield item

    def close(self) -> None:
        """Give the camera or file back; reading again needs `reopen`."""
        if self._capture is not None:
            self._capture.release()
        self._capture, self._files = None, []

    def _open_folder(self) -> None:
        folder = Path(self._source).expanduser()
        self._files = sorted(
            path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
        if not self._files:
            raise PerceptionError(
                f'folder {self._source!r} holds no pictures; expected files ending in '
                f'{", ".join(_PICTURES)}')

    def _open_capture(self) -> None:
        target = self._source
        if self.kind is SourceKind.CAMERA and target.isdigit():
            self._capture = cv2.VideoCapture(int(target))
        else:
            if self.kind is SourceKind.FILE:
                target = str(Path(target).expanduser())
            self._capture = cv2.VideoCapture(target)
        if not self._capture.isOpened():
            self.close()
            raise PerceptionError(
                f'{self.kind.value} {self._source!r} cannot be opened; check that it is connected, '
                'readable by this user, not in use elsewhere, and of a format OpenCV can decode')
        rate_hz = self._rate_hz or self._capture.get(cv2.CAP_PROP_FPS)
        # Broken headers say 0, NaN or a clock rate.
        self.frame_rate_hz = rate_hz if 0 < rate_hz <= 1000 else _DEFAULT_RATE_HZ

    def _rewind(self) -> None:
        self._loop_start = self._index
        if self.kind is SourceKind.FILE:
            # Opening again works for every container; seeking to 0 does not.
            self.close()
            self._open_capture()

    def _next(self) -> np.ndarray | None:
        if self.kind is SourceKind.FOLDER:
            return self._next_picture()
        if self._capture is None:
            return None
        good, image = self._capture.read()
        if not good or image is None:
            return None
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image

    def _next_picture(self) -> np.ndarray | None:
        position = self._index - self._loop_start
        if position >= len(self._files):
            return None
        image = cv2.imread(str(self._files[position]), cv2.IMREAD_COLOR)
        if image is None:
            name = self._files[position]
            self._index += 1
            raise PerceptionError(
                f'picture {str(name)!r} cannot be read; remove it or save it again as PNG or JPEG')
        return image
