# SPDX-License-Identifier: Apache-2.0
"""Videos, folders and cameras give pictures with times, and errors that name cause and remedy."""

import cv2
import numpy as np
import pytest

from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.video import Ending, SourceKind, VideoReader, source_kind


def gray_picture(value):
    return np.full((48, 64, 3), value, np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        cv2.imwrite(str(tmp_path / f'{i}.png'), gray_picture(50 * i))
    (tmp_path / 'notes.txt').write_text('not a picture')
    return tmp_path


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 20, (64, 48))
    for i in range(5):
        writer.write(gray_picture(40 * i))
    writer.release()
    return path


def test_folder_in_the_order_of_names(folder):
    frames = list(VideoReader(str(folder), rate_hz=5))
    assert [int(image[0, 0, 0]) for image, _ in frames] == [0, 50, 100, 150]
    assert [stamp for _, stamp in frames] == pytest.approx([0, 0.2, 0.4, 0.6])


def test_file_with_its_own_rate_and_loop(clip):
    reader = VideoReader(str(clip), Ending.LOOP)
    assert reader.kind is SourceKind.FILE and reader.frame_rate_hz == pytest.approx(20)
    frames = [reader.read() for _ in range(12)]
    assert [stamp for _, stamp in frames] == pytest.approx(np.arange(12) / 20)
    for first, again in zip(frames, frames[5:]):
        np.testing.assert_array_equal(first[0], again[0])
    reader.close()


def test_file_stops_at_its_end(clip):
    reader = VideoReader(str(clip))
    assert len(list(reader)) == 5
    assert reader.read() is None


def test_folder_loops_with_rising_times(folder):
    reader = VideoReader(str(folder), Ending.LOOP)
    stamps = [reader.read()[1] for _ in range(9)]
    assert stamps == pytest.approx(np.arange(9) / 10)


def test_unreadable_picture_is_named_and_the_next_one_read(folder):
    (folder / '1.png').write_bytes(b'broken')
    reader = VideoReader(str(folder))
    assert reader.read()[0][0, 0, 0] == 0
    with pytest.raises(PerceptionError, match=r'1\.png'):
        reader.read()
    assert reader.read()[0][0, 0, 0] == 100


@pytest.mark.parametrize('content, hint', [(b'', 'cannot be opened'), (b'x' * 500, 'cannot be')])
def test_damaged_video_is_refused(tmp_path, content, hint):
    path = tmp_path / 'damaged.mp4'
    path.write_bytes(content)
    with pytest.raises(PerceptionError, match=hint):
        VideoReader(str(path))


def test_missing_sources_are_refused(tmp_path):
    with pytest.raises(PerceptionError, match='does not exist'):
        VideoReader(str(tmp_path / 'nothing.mp4'))
    with pytest.raises(PerceptionError, match='holds no pictures'):
        VideoReader(str(tmp_path))
    with pytest.raises(PerceptionError, match='rate_hz'):
        VideoReader(str(tmp_path), rate_hz=0)


def test_kinds():
    assert source_kind('0') is SourceKind.CAMERA
    assert source_kind('rtsp://camera/stream') is SourceKind.STREAM


class FlakyCapture:
    """A camera that gives two pictures and then none until it is opened again."""

    opened = 0

    def __init__(self, index):
        assert index == 7
        FlakyCapture.opened += 1
        self.left = 2

    def isOpened(self):  # noqa: N802, the name is OpenCV's
        return True

    def get(self, _):
        return 0.0

    def read(self):
        self.left -= 1
        return (True, gray_picture(9)) if self.left >= 0 else (False, None)

    def release(self):
        self.left = 0


def test_camera_that_disappears_and_comes_back(monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', FlakyCapture)
    reader = VideoReader(7)
    assert reader.kind.live
    assert reader.read()[1] <= reader.read()[1]
    with pytest.raises(PerceptionError, match="camera '7' gives no pictures any more"):
        reader.read()
    reader.reopen()
    assert reader.read() is not None
    assert FlakyCapture.opened == 2
