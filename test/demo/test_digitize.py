# SPDX-License-Identifier: Apache-2.0
"""hmr digitize: from a picture to a mesh file, by networks that know a body."""

from __future__ import annotations

import json
from pathlib import Path
import sys

import cv2
import numpy as np
import pytest

trimesh = pytest.importorskip('trimesh', reason='trimesh is not installed')
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'perception'))
from digitizer_networks import TrueNetworks  # noqa: E402
from digitizer_people import POINTS  # noqa: E402
from digitizer_shapes import depths, ELLIPSOID, ellipsoid_hits  # noqa: E402

from hmr_ros import cli  # noqa: E402
from hmr_ros.demo import digitize as digitizing  # noqa: E402
from hmr_ros.demo.errors import DemoError  # noqa: E402
from hmr_ros.perception.person import PersonBox, PersonKeypoints  # noqa: E402

SIDE = 512
BODY_25 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11, 19, 20, 21, 22, 23, 24)
POINTS_HERE = POINTS * SIDE / 2048


@pytest.fixture
def picture(tmp_path, monkeypatch):
    """A grey picture in which the networks know a body, and no body is recovered."""
    monkeypatch.setattr(digitizing, 'open_digitizer', lambda *_, **__: {})
    monkeypatch.setattr(digitizing, 'EngineNetworks', lambda _: TrueNetworks(
        *depths(ellipsoid_hits(ELLIPSOID, SIDE))))
    monkeypatch.setattr(digitizing, '_body_in', lambda *_: None)
    path = tmp_path / 'somebody.png'
    cv2.imwrite(str(path), np.full((SIDE, SIDE, 3), (40, 90, 200), np.uint8))
    return path


@pytest.fixture
def openpose(tmp_path):
    """The sheet's person as OpenPose would write it."""
    body = np.zeros((25, 3))
    body[list(BODY_25)] = np.column_stack([POINTS_HERE[:23], np.ones(23)])
    path = tmp_path / 'somebody.json'
    path.write_text(json.dumps({'people': [{'pose_keypoints_2d': body.ravel().tolist()}]}))
    return path


def digitize(picture, tmp_path, **options):
    told = []
    found = digitizing.digitize_picture(
        digitizing.DigitizeOptions(picture, tmp_path / 'out', **options),
        lambda stage, done: told.append(done))
    assert told == sorted(told) and told[-1] < 1
    return found


def test_joints_of_a_file_and_a_height_make_a_mesh(picture, openpose, tmp_path):
    found = digitize(picture, tmp_path, keypoints=openpose, height_m=1.6, suffix='ply')
    assert found.mesh_file == tmp_path / 'out/somebody.ply'
    mesh = trimesh.load(found.mesh_file, force='mesh')
    report = found.report()
    assert mesh.extents[1] == pytest.approx(1.6, rel=0.02) == report['size_m'][1]
    assert report['watertight'] and mesh.is_watertight
    assert (report['vertices'], report['faces']) == (len(mesh.vertices), len(mesh.faces))
    assert not report['dropped_parts'] and report['resolution'] == SIDE
    assert set(report['milliseconds']) >= {'find', 'low', 'parts', 'refine', 'mesh', 'write'}
    strip = cv2.imread(str(found.turntable_file))
    assert strip.shape[1] > strip.shape[0] and len(np.unique(strip)) > 50
    json.dumps(report)


def test_without_a_file_the_largest_person_is_found(picture, tmp_path, monkeypatch):
    boxes = [PersonBox(np.float32(box)) for box in ((0, 0, 40, 90), (170, 60, 340, 460))]
    asked = []

    def joints_in(_image, box):
        asked.append(box.box.tolist())
        keypoints = PersonKeypoints('', 1.0, box.box, np.float32(POINTS_HERE[:17]), np.ones(17))
        return digitizing.Joints.from_coco17(
            np.column_stack([keypoints.keypoints, keypoints.confidence]))
    monkeypatch.setattr(digitizing, '_detected', lambda *_: boxes)
    monkeypatch.setattr(digitizing, '_joints_in', joints_in)
    report = digitize(picture, tmp_path).report()
    assert asked == [[170, 60, 340, 460]]
    assert set(report['dropped_parts']) == {'left_foot', 'right_foot'}
    assert report['size_m'][1] == pytest.approx(digitizing.USUAL_HEIGHT_M, rel=0.02)


def test_nobody_in_the_picture_is_an_error(picture, tmp_path):
    with pytest.raises(DemoError, match='nobody was found .*--keypoints'):
        digitize(picture, tmp_path)


def test_a_mask_of_another_size_is_refused(picture, openpose, tmp_path):
    mask = tmp_path / 'mask.png'
    cv2.imwrite(str(mask), np.zeros((9, 9), np.uint8))
    with pytest.raises(DemoError, match='mask.png has 9x9 pixels; expected 512x512'):
        digitize(picture, tmp_path, keypoints=openpose, mask=mask)


@pytest.mark.parametrize('data, words', [(None, 'there is no file'), (b'text', 'is no picture')])
def test_pictures_that_cannot_be_read_are_named(tmp_path, data, words):
    path = tmp_path / 'other.png'
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DemoError, match=words) as caught:
        digitize(path, tmp_path)
    assert str(path) in str(caught.value)


def test_the_command_shows_what_it_made(picture, openpose, tmp_path):
    from typer.testing import CliRunner
    report = tmp_path / 'report.json'
    result = CliRunner().invoke(cli.app, [
        'digitize', str(picture), '--keypoints', str(openpose), '--out', str(tmp_path / 'out'),
        '--height', '1.75', '--json', str(report)], catch_exceptions=False)
    assert result.exit_code == 0 and 'turntable' in result.output
    facts = json.loads(report.read_text())
    assert Path(facts['file']).is_file() and Path(facts['file']).suffix == '.glb'
    assert facts['size_m'][1] == pytest.approx(1.75, rel=0.02)
