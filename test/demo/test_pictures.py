# SPDX-License-Identifier: Apache-2.0
"""Videos keep the pace of their source, and contact sheets show all of it."""

import cv2
import numpy as np
import pytest

from hmr_ros.demo.errors import DemoError
from hmr_ros.demo.pictures import VideoFile, write_contact_sheet


def gray(value):
    return np.full((120, 160, 3), value, np.uint8)


def levels(path):
    capture, found = cv2.VideoCapture(str(path)), []
    while True:
        good, frame = capture.read()
        if not good:
            return found
        found.append(float(frame.mean()))


def test_dropped_frames_leave_no_gap_in_time(tmp_path):
    video = VideoFile(tmp_path / 'a.mp4', 10.0)
    for stamp, value in ((50.0, 40), (50.1, 80), (50.4, 160), (50.42, 200), (50.3, 10)):
        video.add(gray(value), stamp)
    video.close()
    assert levels(tmp_path / 'a.mp4') == pytest.approx([40, 80, 80, 80, 160], abs=6)


def test_contact_sheet(tmp_path):
    video = VideoFile(tmp_path / 'a.mp4', 10.0)
    for i in range(24):
        video.add(gray(10 * i), i / 10)
    video.close()
    write_contact_sheet(tmp_path / 'a.mp4', tmp_path / 'sheet.png')
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    assert sheet.shape == (4 * 360, 3 * 480, 3)
    tiles = [sheet[r * 360 + 180, c * 480 + 240].mean() for r in range(4) for c in range(3)]
    assert all(a < b for a, b in zip(tiles, tiles[1:])) and tiles[-1] == pytest.approx(230, abs=6)


def test_nothing_recorded(tmp_path):
    with pytest.raises(DemoError, match='no frame'):
        write_contact_sheet(tmp_path / 'none.mp4', tmp_path / 'sheet.png')
