# SPDX-License-Identifier: Apache-2.0
"""What the package says about itself in several places agrees, and the rooms keep to themselves."""

from __future__ import annotations

import ast
from pathlib import Path
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from hmr_ros._version import __version__

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ('nodes', 'perception', 'body', 'runtime', 'networks', 'training', 'evaluation')
# Who may import whom; nodes are known to nobody but the program.
ALLOWED = {
    'nodes': {'perception', 'body', 'runtime'},
    'perception': {'body'},
    'body': set(),
    'runtime': set(),
    'networks': {'perception', 'body', 'runtime'},
    'training': {'perception', 'body', 'runtime', 'networks', 'evaluation'},
    'evaluation': {'perception', 'body', 'runtime', 'networks', 'training'},
}


def test_the_version_is_written_alike_everywhere():
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert manifest.findtext('version') == __version__
    assert "attr = 'hmr_ros._version.__version__'" in (ROOT / 'pyproject.toml').read_text()


def test_every_message_is_generated():
    listed = set(re.findall(r'"((?:msg|srv)/\w+\.\w+)"', (ROOT / 'CMakeLists.txt').read_text()))
    assert listed == {f'{path.parent.name}/{path.name}' for folder in ('msg', 'srv')
                      for path in (ROOT / folder).iterdir()}


def test_every_imported_message_package_is_a_dependency():
    manifest = ElementTree.parse(ROOT / 'package.xml').getroot()
    named = {e.text for e in manifest if e.tag in ('depend', 'exec_depend')}
    used = {name.split('.')[0] for path in (ROOT / 'hmr_ros/nodes').glob('*.py')
            for name in imports_of(path) if name.endswith(('.msg', '.srv'))}
    assert used - {'hmr_ros', 'builtin_interfaces'} <= named


def test_files_that_are_not_python_are_installed_with_pip_too():
    patterns = re.findall(r"'(\*\*/[^']+)'", (ROOT / 'setup.py').read_text())
    listed = {path for pattern in patterns for path in (ROOT / 'hmr_ros').glob(pattern)}
    files = {path for path in (ROOT / 'hmr_ros').rglob('*')
             if path.is_file() and path.suffix != '.py' and path.parent.name != '__pycache__'}
    assert files and files <= listed


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f'{node.module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize('room', ROOMS)
def test_rooms_import_only_what_they_may(room):
    for path in (ROOT / 'hmr_ros' / room).rglob('*.py'):
        for name in imports_of(path):
            parts = name.split('.')
            if parts[0] == 'hmr_ros' and len(parts) > 1 and parts[1] in ROOMS:
                assert parts[1] == room or parts[1] in ALLOWED[room], f'{path}: {name}'
            if room != 'nodes':
                assert parts[0] not in (
                    'rclpy', 'sensor_msgs', 'std_msgs', 'std_srvs', 'visualization_msgs')
                assert parts[:2] not in (['hmr_ros', 'msg'], ['hmr_ros', 'srv']), path


@pytest.mark.ros
def test_nothing_on_the_live_path_imports_torch(tmp_path):
    pytest.importorskip('rclpy', reason='rclpy is not installed')
    program = ('import sys, hmr_ros.nodes.pipeline; '
               'print([m for m in ("torch", "numba", "lightning", "warp") if m in sys.modules])')
    output = subprocess.check_output([sys.executable, '-c', program], cwd=tmp_path, text=True)
    assert output.strip() == '[]'


@pytest.mark.ros
@pytest.mark.parametrize('folder', ['.', '/'])
def test_sources_and_messages_join_from_anywhere(folder):
    pytest.importorskip('rclpy', reason='rclpy is not installed')
    program = ('from hmr_ros.msg import SmplArray; import hmr_ros.perception.person as p; '
               'print(p.__file__)')
    output = subprocess.check_output(
        [sys.executable, '-c', program], cwd=ROOT / folder, text=True)
    assert Path(output.strip()) == ROOT / 'hmr_ros/perception/person.py'
