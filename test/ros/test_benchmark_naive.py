# SPDX-License-Identifier: Apache-2.0
"""The usual way does the same work: real images in, the same meshes out as Point lists."""

from __future__ import annotations

import numpy as np
import pytest

from hmr_ros.demo import synthetic
from hmr_ros.nodes.benchmark_naive import run_naive
from hmr_ros.nodes.errors import NodeError

pytestmark = pytest.mark.ros
FACES = np.int32([[0, 1, 2], [2, 1, 3]])


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, 'SECONDS', 20 / synthetic.RATE_HZ)
    synthetic.write_walk(tmp_path / 'walk.avi')
    return str(tmp_path / 'walk.avi')


def test_every_picture_is_seen_and_timed(clip):
    seen = []

    def find_people(image):
        seen.append(image.shape)
        return [np.zeros((4, 3), np.float32)] * 2

    result = run_naive(find_people, FACES, clip, 2.0, rate_hz=20.0)
    assert set(seen) == {(synthetic.HEIGHT, synthetic.WIDTH, 3)}
    assert len(seen) > 20
    assert result['people_mean'] == 2 and 10 < result['fps'] < 22
    assert 0 < result['latency_ms']['p50'] <= result['latency_ms']['p95'] < 1000


def test_a_slow_way_drops_and_says_so(clip):
    import time

    def find_people(image):
        time.sleep(0.2)
        return []

    result = run_naive(find_people, FACES, clip, 2.0, rate_hz=20.0)
    assert result['fps'] < 5.5 and result['latency_ms']['p50'] > 200
    assert result['dropped'] > 20


def test_nothing_to_play_is_an_error():
    with pytest.raises(NodeError, match='video_source'):
        run_naive(lambda image: [], FACES, '/no/such/clip.avi', 1.0)


@pytest.mark.torch
def test_meshes_are_those_of_the_body(monkeypatch):
    pytest.importorskip('torch', reason='the usual way runs torch')
    pytest.importorskip('smplx', reason='the usual way skins with smplx')
    from hmr_ros.body import load_body
    from hmr_ros.evaluation.naive import NaivePeople
    from hmr_ros.perception import rotations
    from hmr_ros.perception.person import PersonBox
    naive, people = NaivePeople(4), []
    boxes = [PersonBox(np.float32([100, 50, 200, 350]), 0.9, ''),
             PersonBox(np.float32([300, 80, 380, 330]), 0.8, '')]
    monkeypatch.setattr(naive._detector, 'detect', lambda image: boxes)
    recover = naive._recovery.recover
    monkeypatch.setattr(naive._recovery, 'recover', lambda *args: people.extend(
        recover(*args)) or people[-1:])
    image = np.random.default_rng(0).integers(0, 255, (360, 640, 3), np.uint8)
    meshes = naive(image)
    assert len(meshes) == len(people) == 2
    for mesh, person in zip(meshes, people):
        pose = np.concatenate([person.global_orient[None], person.body_pose])
        vertices, _ = load_body().skin(
            rotations.axis_angle_to_matrix(pose)[None], person.betas[None], person.transl[None])
        np.testing.assert_allclose(mesh, vertices[0], atol=1e-4)
