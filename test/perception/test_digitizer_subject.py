# SPDX-License-Identifier: Apache-2.0
"""Somebody in a picture becomes a mesh before the camera; who cannot is refused at once."""

from __future__ import annotations

from dataclasses import replace
import os
from pathlib import Path

from digitizer_networks import TrueNetworks
from digitizer_people import person
from digitizer_shapes import depths, ELLIPSOID, ellipsoid_hits
import numpy as np
import pytest

from hmr_ros.perception.camera import Camera
from hmr_ros.perception.digitizer import apart, poisson
from hmr_ros.perception.digitizer.apart import poisson_mesh_apart
from hmr_ros.perception.digitizer.digitization import Cancelled, STAGES
from hmr_ros.perception.digitizer.mesh import Mesh
from hmr_ros.perception.digitizer.subject import (
    check_subject, digitize_person, is_watertight, Meshing, save, Subject)
from hmr_ros.perception.digitizer.surface import cloud_of, Surface
from hmr_ros.perception.errors import PerceptionError

trimesh = pytest.importorskip('trimesh', reason='trimesh is not installed')

SIDE, HEIGHT_M = 512, 1.8
CAMERA = Camera(600.0, 600.0, 300.0, 280.0, 600, 560)
NETWORKS = TrueNetworks(*depths(ellipsoid_hits(ELLIPSOID, SIDE)))


def subject(**changes) -> Subject:
    image = np.full((560, 600, 3), (200, 90, 40), np.uint8)
    return replace(Subject(image, person(side=SIDE), CAMERA, HEIGHT_M), **changes)


def digitized(watch=lambda stage, done: None, meshing=Meshing(), **changes):
    return digitize_person(subject(**changes), NETWORKS, meshing, watch)


@pytest.fixture(scope='module')
def found():
    return digitized()


def test_a_known_height_is_the_height_of_the_mesh(found):
    size = np.ptp(found.mesh.vertices, axis=0)
    np.testing.assert_allclose(size, HEIGHT_M * ELLIPSOID / ELLIPSOID[1], rtol=0.05)
    assert is_watertight(found.mesh)
    # Somebody of 1.8 m is as tall in the picture as the joints are.
    joints = person(side=SIDE).points
    shown = np.ptp(CAMERA.project(found.mesh.vertices)[:, 1])
    assert shown == pytest.approx(np.ptp(joints[:, 1]) / 0.92, rel=0.15)


def test_a_known_distance_is_the_distance_of_the_mesh():
    mesh = digitized(distance_m=3.2).mesh
    centre = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    assert np.linalg.norm(centre) == pytest.approx(3.2, rel=0.01)


def test_every_stage_is_told_and_timed():
    told = []
    found = digitized(lambda stage, done: told.append((stage, done)))
    assert list(dict(told)) == [*STAGES, 'mesh'] == list(found.milliseconds)
    shares = [done for _, done in told]
    assert shares == sorted(shares) and 0 <= shares[0] and shares[-1] < 1
    assert all(milliseconds >= 0 for milliseconds in found.milliseconds.values())


@pytest.mark.parametrize('last', [*STAGES, 'mesh'])
def test_a_watch_can_end_it_before_every_stage(last):
    def watch(stage, _done):
        if stage == last:
            raise Cancelled('enough')
    with pytest.raises(Cancelled, match='enough'):
        digitized(watch)


@pytest.mark.parametrize('most', [200, 5000, 10 ** 7])
def test_a_thinned_mesh_has_the_same_place_and_few_triangles(found, most):
    thin = found.thinned(most)
    assert most / 5 < len(thin.faces) <= most or len(thin.faces) == len(found.mesh.faces)
    assert is_watertight(thin)
    np.testing.assert_allclose(thin.vertices.min(0), found.mesh.vertices.min(0), atol=0.15)
    np.testing.assert_allclose(thin.vertices.max(0), found.mesh.vertices.max(0), atol=0.15)


@pytest.mark.parametrize('suffix, turned', [('.ply', (1, 1, 1)), ('.glb', (1, -1, -1))])
def test_files_have_the_axes_of_their_kind(found, tmp_path, suffix, turned):
    save(found.mesh, tmp_path / f'mesh{suffix}')
    mesh = trimesh.load(tmp_path / f'mesh{suffix}', process=False, force='mesh')
    np.testing.assert_allclose(mesh.vertices, found.mesh.vertices * turned, atol=1e-5)
    assert mesh.volume > 0


def test_an_open_mesh_is_not_watertight(found):
    assert not is_watertight(replace(found.mesh, faces=found.mesh.faces[1:]))


def test_a_standing_person_in_view_is_accepted():
    check_subject(person(side=SIDE), SIDE, SIDE, 0.1)


def shifted(x, y):
    joints = person(side=SIDE)
    return replace(joints, points=joints.points + (x, y))


@pytest.mark.parametrize('joints, words', [
    (shifted(0, 200), 'cut off'), (shifted(-220, 0), 'cut off'), (shifted(900, 0), 'cut off: 100%'),
    (replace(person(side=SIDE), points=person(side=SIDE).points * (-1, 1) + (SIDE, 0)), 'behind'),
    (person(5, 11, side=SIDE), '2 of the four joints of the torso')])
def test_who_cannot_be_digitized_is_refused(joints, words):
    with pytest.raises(PerceptionError, match=words):
        check_subject(joints, SIDE, SIDE, 0.1)


def a_cloud(found):
    surface, thin = found.digitization.surface, slice(None, None, 4)
    planes = (surface.front, surface.back, surface.there)
    return cloud_of(Surface(*(plane[thin, thin] for plane in planes)),
                    found.digitization.image[thin, thin])


@pytest.fixture
def library():
    try:
        return poisson._library()
    except PerceptionError as error:
        pytest.skip(str(error))


def test_a_process_of_its_own_makes_the_same_mesh(found, library):
    cloud = a_cloud(found)
    mesh, expected = poisson_mesh_apart(cloud, 5, 1), poisson.poisson_mesh(cloud, 5, 1)
    np.testing.assert_array_equal(mesh.faces, expected.faces)
    np.testing.assert_allclose(mesh.vertices, expected.vertices, atol=1e-6)
    np.testing.assert_array_equal(mesh.colours, expected.colours)


def test_what_the_process_says_is_raised(found):
    with pytest.raises(PerceptionError, match='octree_depth is 99; expected 3 to 12'):
        poisson_mesh_apart(a_cloud(found), 99)


def test_a_process_that_dies_is_told_of(found, monkeypatch):
    monkeypatch.setattr(apart, '__name__', 'hmr_ros.no_such_module')
    with pytest.raises(PerceptionError, match='ended with 1 .*take the direct mesh'):
        poisson_mesh_apart(a_cloud(found), 5)


def test_the_process_ends_when_it_is_not_wanted_any_more(found, monkeypatch, tmp_path):
    said = tmp_path / 'pid'
    (tmp_path / 'sleeper.py').write_text(
        f"import os, time\nwith open({str(said)!r}, 'w') as file:\n"
        '    file.write(str(os.getpid()))\ntime.sleep(300)\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(apart, '__name__', 'sleeper')

    def check():
        if said.exists() and said.read_text():
            raise Cancelled('enough')
    with pytest.raises(Cancelled):
        poisson_mesh_apart(a_cloud(found), 5, check=check)
    with pytest.raises(ProcessLookupError):
        os.kill(int(said.read_text()), 0)


def test_poisson_is_asked_for_as_meshing_says(monkeypatch):
    asked = []

    def instead(cloud, octree_depth, threads, check):
        asked.append((octree_depth, threads))
        check()
        return Mesh(cloud.points[:3], np.array([[0, 1, 2]], np.int32), cloud.colours[:3])
    monkeypatch.setattr('hmr_ros.perception.digitizer.subject.poisson_mesh_apart', instead)
    digitized(meshing=Meshing('poisson', 0, 2))
    digitized(meshing=Meshing('poisson', 6))
    assert asked == [(poisson.OCTREE_DEPTHS[SIDE], 2), (6, 0)]


def test_a_folder_that_is_not_there_is_named(found):
    with pytest.raises(PerceptionError, match='/no/such'):
        save(found.mesh, Path('/no/such/mesh.ply'))
