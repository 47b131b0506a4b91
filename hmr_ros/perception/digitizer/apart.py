# SPDX-License-Identifier: Apache-2.0
"""
Poisson meshes in a process of their own, which can be stopped at any time.

Inside the libraries' calls no other thread of Python runs, for seconds to minutes: in a process
with live nodes all of them would stand still.
"""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import TextIO

import numpy as np

from hmr_ros.perception.digitizer.mesh import Mesh
from hmr_ros.perception.digitizer.poisson import poisson_mesh
from hmr_ros.perception.digitizer.surface import Cloud
from hmr_ros.perception.errors import PerceptionError

_POLL_S = 0.05
_CLOUD, _MESH = ('points', 'normals', 'colours'), ('vertices', 'faces', 'colours')
#: exit status of a child that says in words what is wrong.
_EXPLAINED = 3


def poisson_mesh_apart(
        cloud: Cloud, octree_depth: int, threads: int = 0,
        check: Callable[[], None] = lambda: None) -> Mesh:
    """
    Do `poisson_mesh` in a process of its own.

    check  is called twenty times a second; what it raises ends the process and is raised on

    Raises PerceptionError as `poisson_mesh` does, and when the process dies.
    """
    with tempfile.TemporaryDirectory(prefix='hmr_ros_poisson_') as folder:
        given, made, said = (Path(folder) / name for name in ('cloud.npz', 'mesh.npz', 'said'))
        np.savez(given, **{name: getattr(cloud, name) for name in _CLOUD})
        command = [sys.executable, '-m', __name__, str(given), str(made), str(octree_depth),
                   str(threads)]
        with said.open('w') as stream:
            status = _run(command, stream, check)
        if status:
            raise PerceptionError(_explained(status, said.read_text(errors='replace')))
        with np.load(made) as arrays:
            return Mesh(*(arrays[name] for name in _MESH))


def _run(command: list[str], said: TextIO, check: Callable[[], None]) -> int:
    """Run to the end, or until `check` raises; returns the exit status."""
    # What this process can import the child can, too.
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said,
                          env={**os.environ, 'PYTHONPATH': paths}) as process:
        try:
            while True:
                check()
                try:
                    return process.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    pass
        finally:
            process.kill()


def _explained(status: int, said: str) -> str:
    last = (said.strip().splitlines() or ['it said nothing'])[-1]
    if status == _EXPLAINED:
        return last
    how = f'by signal {-status}, maybe for want of memory' if status < 0 else f'with {status}'
    return f'the Poisson reconstruction ended {how} ({last}); take the direct mesh'


def main(arguments: list[str]) -> int:
    """Mesh the cloud of a file into another file; returns the exit status."""
    given, made, octree_depth, threads = arguments
    with np.load(given) as arrays:
        cloud = Cloud(*(arrays[name] for name in _CLOUD))
    try:
        mesh = poisson_mesh(cloud, int(octree_depth), int(threads))
    except PerceptionError as error:
        print(str(error).replace('\n', ' '), file=sys.stderr)
        return _EXPLAINED
    np.savez(made, **{name: getattr(mesh, name) for name in _MESH})
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
