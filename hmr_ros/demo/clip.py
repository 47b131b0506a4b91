# SPDX-License-Identifier: Apache-2.0
"""The demo's default video: a real surveillance clip from Debian's `opencv-doc`, or a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import shutil
import subprocess
import tempfile

from hmr_ros.demo.errors import DemoError
from hmr_ros.user_cache import cache_folder

PACKAGE = 'opencv-doc'
CLIP = Path('usr/share/doc/opencv-doc/examples/data/vtest.avi')
_TIMEOUT_S = 300

Tell = Callable[[str], None]


def clip_at_hand() -> Path | None:
    """Return the path of the real clip where it is installed or was downloaded, else None."""
    places = (Path('/') / CLIP, _download_place())
    return next((path for path in places if path.is_file()), None)


def default_clip(tell: Tell) -> Path:
    """
    Return the path of the real clip, downloaded once without root, or of a synthetic one.

    `tell` receives one line for each slow step and, when the clip cannot be had, the reason.
    """
    path = clip_at_hand()
    if path is not None:
        return path
    try:
        tell(f'Downloading the Debian package {PACKAGE} (91 MB, once) for its surveillance clip')
        return _download(_download_place())
    except DemoError as error:
        tell(f'{error}\nUsing a synthetic clip instead; give a SOURCE for a video of your own')
    return synthetic_clip(tell)


def synthetic_clip(tell: Tell) -> Path:
    """Return the path of a clip of walking bodies, rendered once."""
    path = cache_folder() / 'synthetic_walk.avi'
    if not path.is_file():
        from hmr_ros.demo.synthetic import write_walk
        tell('Rendering a synthetic clip (once)')
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix('.part.avi')
        write_walk(unfinished)
        unfinished.replace(path)
    return path


def _download_place() -> Path:
    return cache_folder() / CLIP.name


def _download(target: Path) -> Path:
    for tool in ('apt-get', 'dpkg'):
        if shutil.which(tool) is None:
            raise DemoError(f'{tool} is not on this machine, so {PACKAGE} cannot be downloaded')
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='hmr_clip_', dir=target.parent) as folder:
        work = Path(folder)
        try:
            _run(['apt-get', 'download', PACKAGE], work)
        except DemoError:
            # The machine has no package lists, or old ones: fetch our own, which needs no root.
            own_lists = _own_lists(work)
            _run(['apt-get', *own_lists, 'update'], work)
            _run(['apt-get', *own_lists, 'download', PACKAGE], work)
        packages = list(work.glob('*.deb'))
        if not packages:
            raise DemoError(f'apt-get download {PACKAGE} left no package')
        _run(['dpkg', '-x', str(packages[0]), str(work / 'unpacked')], work)
        clip = work / 'unpacked' / CLIP
        if not clip.is_file():
            raise DemoError(f'{packages[0].name} holds no {CLIP}')
        clip.replace(target)
    return target


def _own_lists(work: Path) -> list[str]:
    for name in ('lists/partial', 'cache/archives/partial'):
        (work / name).mkdir(parents=True, exist_ok=True)
    return ['-o', f'Dir::State::lists={work / "lists"}', '-o', f'Dir::Cache={work / "cache"}',
            '-o', 'Debug::NoLocking=1', '-o', 'APT::Update::Error-Mode=any']


def _run(command: list[str], folder: Path) -> None:
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise DemoError(f'{" ".join(command[:1])} took over {_TIMEOUT_S} s') from error
    if result.returncode:
        tail = (result.stderr or result.stdout).strip().splitlines()[-1:]
        raise DemoError(f'{command[0]} {command[-1]} failed: {"".join(tail)}')
