# SPDX-License-Identifier: Apache-2.0
"""The default clip: cached, downloaded, or replaced by a synthetic one with the reason told."""

from pathlib import Path

import cv2
import pytest

from hmr_ros.demo import clip, synthetic


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(clip, 'CLIP', Path('usr/share/doc/hmr-test-only/clip.avi'))
    return tmp_path / 'cache' / 'hmr_ros'


def fake_tools(monkeypatch, tmp_path, apt):
    folder = tmp_path / 'bin'
    folder.mkdir()
    unpack = ('mkdir -p "$3/usr/share/doc/hmr-test-only"; '
              'echo clip > "$3/usr/share/doc/hmr-test-only/clip.avi"')
    for name, script in (('apt-get', apt), ('dpkg', unpack)):
        (folder / name).write_text(f'#!/bin/sh\n{script}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}:/usr/bin:/bin')


def test_downloaded_once_then_cached(cache, monkeypatch, tmp_path):
    fake_tools(monkeypatch, tmp_path, 'touch opencv-doc_1_all.deb')
    told = []
    path = clip.default_clip(told.append)
    assert path == cache / 'clip.avi' and path.read_text() == 'clip\n' and len(told) == 1
    assert [entry.name for entry in cache.iterdir()] == ['clip.avi']
    assert clip.default_clip(told.append) == path and len(told) == 1


def test_machine_without_package_lists_gets_its_own(cache, monkeypatch, tmp_path):
    fake_tools(monkeypatch, tmp_path, (
        'case "$*" in *update*) touch updated;; '
        '*) test -e updated || { echo "E: no lists" >&2; exit 100; }; touch a.deb;; esac'))
    assert clip.default_clip(lambda line: None).read_text() == 'clip\n'


def test_without_network_a_synthetic_clip_and_the_reason(cache, monkeypatch, tmp_path):
    fake_tools(monkeypatch, tmp_path, 'echo "E: Unable to reach the mirror" >&2; exit 100')
    monkeypatch.setattr(synthetic, 'SECONDS', 0.5)
    told = []
    path = clip.default_clip(told.append)
    assert path == cache / 'synthetic_walk.avi'
    assert 'Unable to reach the mirror' in ' '.join(told) and 'synthetic' in ' '.join(told)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    frame = capture.read()[1]
    assert frame.shape == (synthetic.HEIGHT, synthetic.WIDTH, 3) and frame.std() > 5
