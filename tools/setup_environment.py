# SPDX-License-Identifier: Apache-2.0
"""
Make a virtual environment that is also a ROS 2 prefix, with this package inside.

    python3 tools/setup_environment.py [--for demo|test] [--venv .venv]

Every step is skipped when a stamp says that its inputs have not changed since it last succeeded.
Nothing outside the virtual environment is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
import hashlib
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import time

SOURCE = Path(__file__).resolve().parents[1]
REQUIREMENTS = {
    'demo': ('ros', 'core', 'onnx', 'packed', 'demo'),
    'test': ('ros', 'core', 'onnx', 'packed', 'demo', 'train', 'digitizer', 'test'),
}
PYTHON_VERSIONS = ((3, 10), (3, 12))
# The wheels' exported CMake targets name these two folders of the machine they were built on.
FOREIGN_PYTHON_INCLUDE = re.compile(r'/opt/python/[^;"]*/include/python3\.\d+')
FOREIGN_NUMPY_INCLUDE = re.compile(r'/opt/python/[^;"]*/numpy/_?core/include')

STARTUP_MODULE = '''\
# Written by tools/setup_environment.py: this environment is a ROS 2 prefix.
import os
import sys

SOURCE = {source!r}
prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
if sys.prefix not in prefixes:
    os.environ['AMENT_PREFIX_PATH'] = os.pathsep.join([*prefixes, sys.prefix])
# Before this folder, which holds the generated messages and may hold an empty __init__.py.
here = os.path.dirname(__file__)
if SOURCE not in sys.path:
    sys.path.insert(sys.path.index(here) if here in sys.path else len(sys.path), SOURCE)
'''


class SetupError(RuntimeError):
    """The environment cannot be made; the message says what to do."""


class Stamps:
    """Remembers the fingerprint of the inputs with which each step last succeeded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = json.loads(path.read_text()) if path.exists() else {}

    def holds(self, step: str, fingerprint: str) -> bool:
        """Tell whether `step` succeeded before with this fingerprint."""
        return self._known.get(step) == fingerprint

    def run(self, step: str, fingerprint: str, title: str, action: Callable[[], None]) -> None:
        """Run `action` unless it succeeded before with this fingerprint."""
        if self.holds(step, fingerprint):
            return
        print(f'[setup] {title} ...', flush=True)
        start = time.monotonic()
        action()
        self._known[step] = fingerprint
        self._path.write_text(json.dumps(self._known, indent=1))
        print(f'[setup] {title}: done in {time.monotonic() - start:.0f} s', flush=True)


def fingerprint_of(files: Iterable[Path], *words: str) -> str:
    """Hash the names and contents of `files`, and `words`."""
    digest = hashlib.sha256('\0'.join(words).encode())
    for file in sorted(files):
        digest.update(str(file.relative_to(SOURCE)).encode() + b'\0' + file.read_bytes())
    return digest.hexdigest()


def run_quietly(command: list[str], log: Path, remedy: str) -> None:
    """Run `command`, its output in `log`; on failure raise SetupError with the log's end."""
    with log.open('w') as stream:
        result = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if result.returncode:
        tail = '\n'.join(log.read_text(errors='replace').splitlines()[-25:])
        raise SetupError(
            f'{" ".join(command[:4])} ... failed:\n{tail}\n{remedy} (whole log: {log})')


def make_environment(venv: Path) -> None:
    """Create the virtual environment with the running interpreter."""
    lowest, highest = PYTHON_VERSIONS
    if not lowest <= sys.version_info[:2] <= highest:
        raise SetupError(
            f'Python {sys.version.split()[0]} has no ROS wheels; use one from 3.{lowest[1]} to '
            f'3.{highest[1]}, for example: make PYTHON=python3.{highest[1]}')
    run_quietly([sys.executable, '-m', 'venv', str(venv)], venv.parent / f'{venv.name}.log',
                'On Debian and Ubuntu: apt install python3-venv')
    (venv.parent / f'{venv.name}.log').unlink()


def install_wheels(venv: Path, lists: Iterable[str]) -> None:
    """Install the named requirement lists in one go, so that pip weighs them together."""
    command = [str(venv / 'bin/python'), '-m', 'pip', 'install', '--disable-pip-version-check',
               '--no-input', '--progress-bar', 'off', '--quiet', '--quiet']
    for name in lists:
        command += ['-r', str(SOURCE / 'requirements' / f'{name}.txt')]
    if shutil.which('cmake') is None:
        command.append('cmake>=3.22,<4')
    run_quietly(command, venv / 'setup_wheels.log', 'Is the package index reachable?')


def python_folders(venv: Path) -> tuple[str, str, str]:
    """Return the environment's site-packages, Python headers and numpy headers."""
    program = ('import json, numpy, sysconfig; print(json.dumps([sysconfig.get_path("purelib"), '
               'sysconfig.get_path("include"), numpy.get_include()]))')
    text = subprocess.check_output([str(venv / 'bin/python'), '-c', program], text=True)
    site, python_include, numpy_include = json.loads(text.splitlines()[-1])
    if not (Path(python_include) / 'Python.h').exists():
        raise SetupError(f'no Python.h in {python_include}; on Debian and Ubuntu: '
                         'apt install python3-dev')
    return site, python_include, numpy_include


def correct_includes(venv: Path) -> None:
    """Point the wheels' exported targets at this environment's Python and numpy headers."""
    _, python_include, numpy_include = python_folders(venv)
    for file in venv.glob('share/*/cmake/*Export.cmake'):
        text = file.read_text()
        fixed = FOREIGN_NUMPY_INCLUDE.sub(numpy_include, text)
        fixed = FOREIGN_PYTHON_INCLUDE.sub(python_include, fixed)
        if fixed != text:
            file.write_text(fixed)


def write_startup(venv: Path) -> None:
    """Make every start of this Python find the ROS prefix and the package's sources."""
    site = Path(python_folders(venv)[0])
    (site / 'hmr_ros_startup.py').write_text(STARTUP_MODULE.format(source=str(SOURCE)))
    (site / 'hmr_ros_startup.pth').write_text('import hmr_ros_startup\n')


def build_package(venv: Path) -> None:
    """Generate, compile and install messages and executables with the package's CMakeLists.txt."""
    build = venv / 'build/hmr_ros'
    cmake = shutil.which('cmake') or str(venv / 'bin/cmake')
    python = str(venv / 'bin/python')
    # A `python3` from the environment must be the first one: generators are run by that name.
    os.environ['PATH'] = os.pathsep.join([str(venv / 'bin'), os.environ['PATH']])
    os.environ['PYTHONWARNINGS'] = 'ignore'
    configure = [cmake, '-S', str(SOURCE), '-B', str(build), f'-DCMAKE_INSTALL_PREFIX={venv}',
                 f'-DCMAKE_PREFIX_PATH={venv}', f'-DPython3_EXECUTABLE={python}',
                 '-DCMAKE_BUILD_TYPE=Release', '-DBUILD_TESTING=OFF',
                 '-DHMR_ROS_PYTHON_IN_PLACE=ON', '-DAMENT_CMAKE_SYMLINK_INSTALL=ON']
    run_quietly(configure, venv / 'setup_configure.log', 'Is a C++ compiler installed?')
    run_quietly([cmake, '--build', str(build), '--target', 'install',
                 '--parallel', str(os.cpu_count() or 1)],
                venv / 'setup_build.log', 'Remove the virtual environment and try again')


def package_fingerprint(venv: Path) -> str:
    """Hash what the installed half of the package is made of."""
    files = [*SOURCE.glob('msg/*.msg'), *SOURCE.glob('srv/*.srv'), *SOURCE.glob('cmake/*'),
             SOURCE / 'CMakeLists.txt', SOURCE / 'package.xml', Path(__file__).resolve()]
    # Installed as links: only their names matter.
    linked = [str(f.relative_to(SOURCE)) for folder in ('launch', 'config', 'engines')
              for f in sorted((SOURCE / folder).rglob('*')) if '__pycache__' not in f.parts]
    return fingerprint_of(files, str(SOURCE), str(venv), *linked)


def wheels_step(purpose: str) -> tuple[str, str]:
    """Return name and fingerprint of installing what `purpose` needs."""
    files = [SOURCE / 'requirements' / f'{name}.txt' for name in REQUIREMENTS[purpose]]
    return f'wheels for {purpose}', fingerprint_of(files)


def set_up(purpose: str, venv: Path) -> None:
    """Bring the environment up to date for `purpose`, 'demo' or 'test'."""
    if not (venv / 'bin/python').exists():
        print(f'[setup] virtual environment {venv.name}', flush=True)
        make_environment(venv)
    stamps = Stamps(venv / 'setup_stamps.json')
    # What serves the tests serves the demo too.
    served = [other for other in ('test', purpose) if stamps.holds(*wheels_step(other))]
    if not served:
        lists = REQUIREMENTS[purpose]
        stamps.run(*wheels_step(purpose), f'wheels for {purpose} ({", ".join(lists)})',
                   lambda: install_wheels(venv, lists))
    ros = fingerprint_of([SOURCE / 'requirements/ros.txt', Path(__file__).resolve()])
    stamps.run('ROS prefix', ros, 'ROS prefix',
               lambda: (correct_includes(venv), write_startup(venv)))
    stamps.run('hmr_ros', package_fingerprint(venv), 'messages and executables of hmr_ros',
               lambda: build_package(venv))


def main() -> int:
    """Parse arguments, set up, and report a failure in one message."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--for', dest='purpose', choices=sorted(REQUIREMENTS), default='demo')
    parser.add_argument('--venv', type=Path, default=SOURCE / '.venv')
    arguments = parser.parse_args()
    try:
        set_up(arguments.purpose, arguments.venv.absolute())
    except SetupError as error:
        print(f'[setup] {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
