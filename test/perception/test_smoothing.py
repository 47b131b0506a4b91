# SPDX-License-Identifier: Apache-2.0
"""Smoothed bodies: tracks keep to themselves, start afresh when they must, and stay whole."""

from dataclasses import replace
from pathlib import Path
import sys
import tracemalloc
from types import SimpleNamespace

from bodies import point_body, random_rotations
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmr_ros.perception import rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.learned_smoothing import LearnedSmoother
from hmr_ros.perception.person import Person
from hmr_ros.perception.smoothing import OneEuroSmoother, SmoothingSettings
from hmr_ros.runtime import load_engine

sys.path.insert(0, str(Path(__file__).parents[1] / 'runtime'))
from mock_networks import write_temporal_mock  # noqa: E402

BODY = point_body()
CAMERA = Camera(600.0, 610.0, 320.0, 240.0, 640, 480)
FRAME_S = 1 / 16  # exact in binary, as are its multiples
FEATURES, LAYERS, WIDTH = 6, 2, 5


def person(track_id, seed, **changes):
    """Return a whole person of random pose, shape, place and feature."""
    rng = np.random.default_rng(seed)
    rotmats, betas = random_rotations(1, 0.5, seed), rng.normal(size=(1, 10)).astype(np.float32)
    joints, _ = BODY.pose_joints(rotmats, betas)
    transl = np.float32([rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(3, 8)])
    pose = rotations.matrix_to_axis_angle(rotmats[0])
    return replace(Person(
        track_id=track_id, score=0.8, box=np.float32([1, 2, 3, 4]),
        crop_transform=np.eye(2, 3, dtype=np.float32), global_orient=pose[0], body_pose=pose[1:],
        betas=betas[0], transl=transl, joints3d=joints[0] + transl,
        joints2d=CAMERA.project(joints[0] + transl), joint_confidence=np.ones(24, np.float32),
        feature=rng.normal(size=FEATURES).astype(np.float32)), **changes)


class MockNetwork:
    """A recurrent network by hand: h_out = h_in / 2 + a map of the feature; near identity."""

    name = 'mock'

    def __init__(self, inputs=('feature', 'h_in')):
        shapes = {'feature': (-1, FEATURES), 'h_in': (LAYERS, -1, WIDTH), 'pose6d_in': (-1, 144),
                  'betas_in': (-1, 10)}
        outputs = {'pose6d': (-1, 144), 'betas': (-1, 10), 'cam': (-1, 3),
                   'h_out': (LAYERS, -1, WIDTH)}
        self.inputs = [SimpleNamespace(name=name, shape=shapes[name]) for name in inputs]
        self.outputs = [SimpleNamespace(name=n, shape=shape) for n, shape in outputs.items()]
        self.feeds, self.poison = [], None
        rng = np.random.default_rng(3)
        self.maps = [rng.normal(0, 0.3, shape).astype(np.float32)
                     for shape in ((FEATURES, WIDTH), (WIDTH, 144), (WIDTH, 10))]

    def run(self, feeds):
        self.feeds.append(feeds)
        hidden = 0.5 * feeds['h_in']
        if 'feature' in feeds:
            # Row by row: a matrix product may add in another order for another batch.
            hidden = hidden + np.stack([row @ self.maps[0] for row in feeds['feature']])
        if self.poison is not None:
            hidden[:, self.poison] = np.nan
        top = hidden[-1]
        pose = np.tile(np.float32([1, 0, 0, 1, 0, 0]), 24)
        return {
            'pose6d': pose + np.stack([row @ self.maps[1] for row in top]),
            'betas': np.stack([row @ self.maps[2] for row in top]),
            'cam': np.zeros((len(top), 3), np.float32), 'h_out': hidden}


def make(method, settings=SmoothingSettings()):
    if method == 'one_euro':
        return OneEuroSmoother(BODY, settings)
    return LearnedSmoother(MockNetwork(), BODY, settings)


both = pytest.mark.parametrize('method', ['one_euro', 'learned'])


def assert_same(one, other):
    for name in ('global_orient', 'body_pose', 'betas', 'transl', 'joints3d', 'joints2d'):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


def play(smoother, frames):
    """Smooth (stamp_s, people) frames; returns the people by track, in order."""
    found = {}
    for stamp_s, people in frames:
        for given, one in zip(people, smoother.smooth(people, CAMERA, stamp_s)):
            assert one.track_id == given.track_id
            found.setdefault(one.track_id, []).append(one)
    return found


def track(name, frames=12, seed=0, first=0):
    """Return frames with one person each, who moves at random."""
    return [(FRAME_S * (first + i), [person(name, 100 * seed + i)]) for i in range(frames)]


@both
def test_interleaved_tracks_are_bit_for_bit_those_of_separate_runs(method):
    one, other = track('p1', seed=1), track('p2', seed=2)
    alone = {**play(make(method), one), **play(make(method), other)}
    shared = [(stamp, [*a, *b][::(-1) ** i]) for i, ((stamp, a), (_, b)) in enumerate(
        zip(one, other))]
    # The second one a little later, so that their frames alternate.
    turns = sorted(one + [(stamp + 0.01, people) for stamp, people in other])
    later = play(make(method), [(stamp + 0.01, people) for stamp, people in other])
    for frames, second in ((shared, alone['p2']), (turns, later['p2'])):
        found = play(make(method), frames)
        for a, b in zip(alone['p1'] + second, found['p1'] + found['p2'], strict=True):
            assert_same(a, b)


def test_an_onnx_engine_gives_a_track_the_same_in_any_company(tmp_path):
    pytest.importorskip('onnxruntime', reason='the onnxruntime backend is not installed')
    engine = load_engine(str(write_temporal_mock(tmp_path / 'mock.onnx', FEATURES, WIDTH, LAYERS)))
    crowd = [track(f'p{i}', seed=i) for i in range(5)]
    together = play(LearnedSmoother(engine, BODY), [
        (frames[0][0], [one for _, (one,) in frames]) for frames in zip(*crowd)])
    for frames in crowd:
        for name, alone in play(LearnedSmoother(engine, BODY), frames).items():
            for a, b in zip(alone, together[name], strict=True):
                assert_same(a, b)


def test_the_shipped_filter_gives_a_track_the_same_in_any_company():
    pytest.importorskip('onnxruntime', reason='the onnxruntime backend is not installed')
    engine = load_engine('body_filter')
    entry = engine.entry
    assert entry.features_of == load_engine('keypoint_guided').sha256
    rng = np.random.default_rng(0)

    def shaking(name, seed):
        still = person(name, seed, feature=rng.normal(size=512).astype(np.float32))
        return [(FRAME_S * i, [replace(
            still, body_pose=still.body_pose + rng.normal(0, 0.1, (23, 3)).astype(np.float32))])
            for i in range(20)]
    crowd = [shaking(f'p{i}', i) for i in range(4)]
    together = play(LearnedSmoother(engine, BODY), [
        (frames[0][0], [one for _, (one,) in frames]) for frames in zip(*crowd)])
    for i, frames in enumerate(crowd):
        alone = play(LearnedSmoother(engine, BODY), frames)[f'p{i}']
        for a, b in zip(alone, together[f'p{i}'], strict=True):
            assert_same(a, b)


@both
def test_a_track_that_leaves_and_comes_back_starts_fresh(method):
    before, after = track('p1', 5, seed=1), track('p1', 5, seed=2, first=20)
    found = play(make(method), before + after)['p1'][5:]
    for a, b in zip(found, play(make(method), after)['p1'], strict=True):
        assert_same(a, b)
    near = track('p1', 5, seed=2, first=6)
    continued = play(make(method), before + near)['p1'][5]
    with pytest.raises(AssertionError):
        assert_same(continued, play(make(method), near)['p1'][0])


@both
def test_a_recording_that_starts_again_plays_the_same(method):
    smoother, frames = make(method), track('p1', 8)
    first, second = play(smoother, frames)['p1'], play(smoother, frames)['p1']
    for a, b in zip(first, second, strict=True):
        assert_same(a, b)
    assert smoother.rewinds == 1


@both
def test_a_frame_that_comes_twice_is_one_step(method):
    frames = track('p1', 8)
    twice = play(make(method), [frame for frame in frames for _ in range(2)])['p1']
    once = play(make(method), frames)['p1']
    for i, one in enumerate(once):
        assert_same(one, twice[2 * i])
        assert_same(one, twice[2 * i + 1])


@both
def test_ten_thousand_tracks_hold_memory_flat(method):
    smoother = make(method, SmoothingSettings(max_gap_s=1e9, max_tracks=16))
    template, sizes = person('', 0), []
    for frame in range(100):
        if frame == 75:
            # Late, because it is slow; 2,000 of the ids that leak would show.
            tracemalloc.start()
        people = [replace(template, track_id=f'p{frame}_{i}') for i in range(100)]
        smoother.smooth(people, CAMERA, FRAME_S * frame)
        assert smoother.tracks == 16
        if method == 'learned':
            smoother._engine.feeds.clear()
        if frame in (79, 99):
            people.clear()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert abs(sizes[1] - sizes[0]) < 20_000


@both
def test_joints_are_those_of_the_smoothed_body(method):
    frames = [(FRAME_S * i, [person('p1', i), person('p2', 50 + i)]) for i in range(4)]
    for found in zip(*play(make(method), frames).values()):
        for one in found:
            rotmats = Rotation.from_rotvec(one.pose).as_matrix()[None]
            joints, _ = BODY.pose_joints(rotmats, one.betas[None].astype(np.float64))
            np.testing.assert_allclose(one.joints3d, joints[0] + one.transl, atol=1e-5)
            np.testing.assert_allclose(one.joints2d, CAMERA.project(one.joints3d), atol=1e-2)
            assert one.joints3d.dtype == one.joints2d.dtype == one.pose.dtype == np.float32


def test_a_still_person_comes_out_as_they_came_in():
    given = person('p1', 7)
    found = play(make('one_euro'), [(FRAME_S * i, [given]) for i in range(20)])['p1']
    for one in found:
        np.testing.assert_array_equal(one.pose, given.pose)
        np.testing.assert_array_equal(one.betas, given.betas)
        np.testing.assert_allclose(one.transl, given.transl, atol=2e-6)
        np.testing.assert_allclose(one.joints2d, given.joints2d, atol=2e-3)


def test_a_shaking_person_gets_steadier():
    rng, still = np.random.default_rng(0), person('p1', 7)
    frames = []
    for i in range(100):
        pose = (Rotation.from_rotvec(still.pose) * Rotation.from_rotvec(
            rng.normal(0, 0.05, (24, 3)))).as_rotvec().astype(np.float32)
        shift = rng.normal(0, 0.03, 3).astype(np.float32)
        joints, _ = BODY.pose_joints(
            rotations.axis_angle_to_matrix(pose)[None], still.betas[None])
        frames.append((i / 20, [replace(
            still, global_orient=pose[0], body_pose=pose[1:], transl=still.transl + shift,
            joints3d=joints[0] + still.transl + shift)]))
    found = play(make('one_euro'), frames)['p1']

    def acceleration(people):
        return np.abs(np.diff([p.joints3d for p in people], 2, axis=0)).mean()
    assert acceleration(found[20:]) < 0.35 * acceleration([p[0] for _, p in frames[20:]])


@both
@pytest.mark.parametrize('change, smoothed, passed, left_out', [
    ({'track_id': ''}, 1, 1, 0), ({'track_id': 'p1'}, 1, 1, 0),
    ({'transl': np.float32([0, np.nan, 5])}, 1, 0, 1),
    ({'body_pose': np.full((23, 3), np.inf, np.float32)}, 1, 0, 1)])
def test_who_cannot_be_smoothed_passes_and_who_is_not_finite_is_left_out(
        method, change, smoothed, passed, left_out):
    smoother = make(method)
    play(smoother, track('p1', 3))
    good, bad = person('p1', 50), replace(person('p2', 51), **change)
    found = smoother.smooth([good, bad], CAMERA, 3 * FRAME_S)
    assert [p.track_id for p in found] == [good.track_id, bad.track_id][:2 - left_out]
    if passed:
        assert found[1] is bad
    record = smoother.record
    assert (record.smoothed, record.passed, record.left_out) == (smoothed, passed, left_out)
    reference = make(method)
    play(reference, track('p1', 3))
    assert_same(found[0], reference.smooth([good], CAMERA, 3 * FRAME_S)[0])


@pytest.mark.parametrize('feature', [
    np.zeros(0, np.float32), np.zeros(FEATURES + 1, np.float32),
    np.full(FEATURES, np.nan, np.float32)])
def test_only_the_learned_method_needs_a_feature(feature):
    given = person('p1', 1, feature=feature)
    for method, passed in (('learned', 1), ('one_euro', 0)):
        smoother = make(method)
        smoother.smooth([given], CAMERA, 0.0)
        assert smoother.record.passed == passed


def test_a_state_that_is_not_finite_resets_its_own_track_only():
    smoother = make('learned')
    frames = [(FRAME_S * i, [person('p1', i), person('p2', 50 + i)]) for i in range(9)]
    play(smoother, frames[:4])
    smoother._engine.poison = 0
    found = smoother.smooth(frames[4][1], CAMERA, frames[4][0])
    assert found[0] is frames[4][1][0] and smoother.record.resets == 1
    assert (smoother.record.smoothed, smoother.record.passed) == (1, 1)
    smoother._engine.poison = None
    after = play(smoother, frames[5:])
    fresh = play(make('learned'), [(stamp, people[:1]) for stamp, people in frames[5:]])
    untouched = play(make('learned'), [(stamp, people[1:]) for stamp, people in frames])
    for a, b in zip(after['p1'] + after['p2'], fresh['p1'] + untouched['p2'][5:], strict=True):
        assert_same(a, b)


def test_the_engines_inputs_decide_what_it_is_fed():
    network = MockNetwork(('h_in', 'pose6d_in', 'betas_in'))
    smoother = LearnedSmoother(network, BODY)
    given = [person('p1', 1, feature=np.zeros(0, np.float32)), person('p2', 2)]
    smoother.smooth(given, CAMERA, 0.0)
    feeds, = network.feeds
    assert set(feeds) == {'h_in', 'pose6d_in', 'betas_in'} and not feeds['h_in'].any()
    matrix = Rotation.from_rotvec(given[1].body_pose[3]).as_matrix()
    np.testing.assert_allclose(
        feeds['pose6d_in'][1].reshape(24, 3, 2)[4], matrix[:, :2], atol=1e-6)
    np.testing.assert_array_equal(feeds['betas_in'][1], given[1].betas)


def test_an_engine_that_is_no_temporal_one_is_refused():
    network = MockNetwork()
    network.outputs = network.outputs[:-1]
    with pytest.raises(PerceptionError, match="'mock' has the output h_out None.*temporal"):
        LearnedSmoother(network, BODY)
    network = MockNetwork()
    network.inputs.append(SimpleNamespace(name='image', shape=(-1, 3, 8, 8)))
    with pytest.raises(PerceptionError, match='image.*h_in'):
        LearnedSmoother(network, BODY)


def test_settings_may_be_exchanged_between_frames():
    smoother = make('one_euro')
    smoother.smooth([person('p1', 1), person('p2', 2)], CAMERA, 0.0)
    smoother.settings = SmoothingSettings(max_tracks=1)
    smoother.smooth([person('p1', 3)], CAMERA, FRAME_S)
    assert smoother.tracks == 1
