# SPDX-License-Identifier: Apache-2.0
"""Mesh files are what a reader of its own finds in them, and are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
import stat

from digitizer_shapes import CENTRE, depths, ELLIPSOID, ellipsoid_hits
import numpy as np
import pytest

from hmr_ros.perception.digitizer.mesh import direct_mesh, Mesh
from hmr_ros.perception.digitizer.mesh_file import write_mesh
from hmr_ros.perception.digitizer.surface import surface_of
from hmr_ros.perception.errors import PerceptionError

trimesh = pytest.importorskip('trimesh', reason='mesh files need trimesh')
#: metres of a unit.
UNIT_M = 2.52


@pytest.fixture(scope='module')
def mesh() -> Mesh:
    side = 96
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    found = direct_mesh(surface_of(*depths(ellipsoid_hits(ELLIPSOID, side))), image)
    return Mesh(found.vertices * np.float32(UNIT_M), found.faces, found.colours)


@pytest.mark.parametrize('name', ['body.ply', 'body.glb', 'BODY.GLB'])
def test_another_reader_finds_the_mesh(tmp_path: Path, mesh: Mesh, name: str) -> None:
    write_mesh(tmp_path / name, mesh.vertices, mesh.faces, mesh.colours)
    read = trimesh.load(tmp_path / name, force='mesh', process=False)
    assert read.is_watertight and read.is_winding_consistent
    # Metres, outward, however coarse the grid.
    truth = 4 / 3 * np.pi * ELLIPSOID.prod() * UNIT_M ** 3
    assert read.volume == pytest.approx(truth, rel=0.05)
    assert read.extents[1] == pytest.approx(2 * ELLIPSOID[1] * UNIT_M, rel=0.03)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    np.testing.assert_allclose(read.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(read.visual.vertex_colors[:, :3], mesh.colours)
    assert (read.visual.vertex_colors[:, 3] == 255).all()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert np.abs(CENTRE).max() == 1, 'the world has its origin in the body'
    assert np.abs(read.centroid).max() < 0.01


def test_a_new_file_replaces_an_old_one_and_others_may_read_it(tmp_path: Path, mesh: Mesh) -> None:
    path = tmp_path / 'body.ply'
    path.write_bytes(b'old')
    mask = os.umask(0o022)
    try:
        write_mesh(path, mesh.vertices, mesh.faces, mesh.colours)
    finally:
        os.umask(mask)
    assert path.read_bytes().startswith(b'ply')
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize('stopped', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_what_fails_leaves_nothing_behind(
        tmp_path: Path, mesh: Mesh, monkeypatch: pytest.MonkeyPatch,
        stopped: BaseException) -> None:
    path = tmp_path / 'body.ply'
    path.write_bytes(b'old')

    def stop(*_: object) -> None:
        raise stopped
    monkeypatch.setattr(os, 'replace', stop)
    expected = PerceptionError if isinstance(stopped, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_mesh(path, mesh.vertices, mesh.faces, mesh.colours)
    assert [one.name for one in tmp_path.iterdir()] == ['body.ply']
    assert path.read_bytes() == b'old'


def test_what_is_refused_and_why(tmp_path: Path, mesh: Mesh) -> None:
    whole = (mesh.vertices, mesh.faces, mesh.colours)
    with pytest.raises(PerceptionError, match=r'body.stl: a mesh file ends with .ply or .glb'):
        write_mesh(tmp_path / 'body.stl', *whole)
    with pytest.raises(PerceptionError, match='nowhere.*choose a folder that exists'):
        write_mesh(tmp_path / 'nowhere/body.ply', *whole)
    with pytest.raises(PerceptionError, match=r'colours have shape .* of float64; expected'):
        write_mesh(tmp_path / 'body.ply', *whole[:2], mesh.colours / 255)
    with pytest.raises(PerceptionError, match=r'faces have shape \(0, 3\)'):
        write_mesh(tmp_path / 'body.ply', mesh.vertices, mesh.faces[:0], mesh.colours)
    with pytest.raises(PerceptionError, match='finite'):
        write_mesh(tmp_path / 'body.ply', mesh.vertices * np.nan, *whole[1:])
    assert not list(tmp_path.iterdir())
