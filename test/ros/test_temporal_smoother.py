# SPDX-License-Identifier: Apache-2.0
"""temporal_smoother, live: every message answered, the right method, bad input survived."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import sys

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from hmr_ros.body import load_body
from hmr_ros.msg import SmplArray
from hmr_ros.nodes.benchmark_smoother import benchmark_smoother
from hmr_ros.nodes.conversions import camera_to_message, person_from_message, person_to_message
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.pipeline import make_nodes
from hmr_ros.nodes.temporal_smoother import TemporalSmootherNode
from hmr_ros.perception import rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.person import Person
from hmr_ros.runtime import EngineError, load_engine
from hmr_ros.runtime.manifest import add_entry, file_sha256, ManifestEntry

sys.path.insert(0, str(Path(__file__).parents[1] / 'runtime'))
from mock_networks import write_temporal_mock  # noqa: E402

pytestmark = pytest.mark.ros

BODY = load_body()
CAMERA = Camera(300.0, 300.0, 160.0, 120.0, 320, 240)
MESH_ENGINE, FEATURES, LAYERS, WIDTH = 'e' * 64, 6, 2, 5
FRAME_NS = 1_000_000_000 // 16


def person(seed, track_id='p1', **changes):
    """Return a body 3 m away, facing the camera, in a random pose."""
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, 0.2, (24, 3)).astype(np.float32)
    pose[0, 0] += 3.0
    betas = rng.normal(0, 0.5, 10).astype(np.float32)
    joints, _ = BODY.pose_joints(rotations.axis_angle_to_matrix(pose)[None], betas[None])
    transl = np.float32([0, 0, 3]) - joints[0, 0]
    return replace(Person(
        track_id=track_id, score=0.9, box=np.float32([1, 2, 3, 4]),
        crop_transform=np.eye(2, 3, dtype=np.float32), global_orient=pose[0], body_pose=pose[1:],
        betas=betas, transl=transl, joints3d=joints[0] + transl,
        joints2d=CAMERA.project_ahead(joints[0] + transl),
        joint_confidence=np.ones(24, np.float32),
        feature=rng.normal(size=FEATURES).astype(np.float32)), **changes)


def message_of(frame, people, **changes):
    """Return the people of a frame as mesh_recovery would say it."""
    sec, nanosec = divmod(100_000_000_000 + frame * FRAME_NS, 1_000_000_000)
    message = SmplArray(
        layout=SmplArray.LAYOUT_SMPL, body_model=BODY.name, body_model_sha256=BODY.sha256,
        engine='mesh', engine_sha256=MESH_ENGINE, people=[person_to_message(p) for p in people])
    message.header = Header(frame_id='camera')
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    camera_to_message(CAMERA, message)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.fixture
def engine_path(tmp_path):
    """Return the path of a mock temporal engine with its manifest."""
    path = write_temporal_mock(tmp_path / 'temporal.onnx', FEATURES, WIDTH, LAYERS)
    add_entry(tmp_path, ManifestEntry(
        name='temporal', network='rsc_net', file=path.name, sha256=file_sha256(path), opset=17,
        inputs={'feature': (-1, FEATURES), 'h_in': (LAYERS, -1, WIDTH)},
        outputs={'pose6d': (-1, 144), 'betas': (-1, 10), 'cam': (-1, 3),
                 'h_out': (LAYERS, -1, WIDTH)},
        image_size=0, mean=(), std=(), licence='Apache-2.0', features_of=MESH_ENGINE))
    return path


@pytest.fixture
def smoother(graph):
    """Return how to run the node, with the probe listening."""
    def run(**parameters):
        node = graph.make(TemporalSmootherNode, parameters, list_engines=lambda: [])
        graph.listen(SmplArray, 'smpl_smoothed')
        if node.is_active:
            graph.until(node._publisher.get_subscription_count, 'the probe to be seen')
        return node
    return run


def answer(graph, message):
    """Publish on `smpl` and return the answer."""
    graph.publish('smpl', message)
    found = graph.next_on('smpl_smoothed')
    assert found.header == message.header
    return found


def as_received(message):
    """Return a message with the array types that a subscriber gets."""
    return deserialize_message(serialize_message(message), type(message))


def value_of(status, key):
    return {item.key: item.value for item in status.values}.get(key, '')


def test_every_message_is_answered_with_its_header_and_steadier_people(graph, smoother):
    node = smoother()
    sent = [person(seed) for seed in range(30)]
    found = []
    for i, one in enumerate(sent):
        reply = answer(graph, message_of(i, [one]))
        assert (reply.engine, reply.engine_sha256) == ('mesh', MESH_ENGINE)
        assert list(reply.camera) == [300, 300, 160, 120] and reply.image_width == 320
        found.append(person_from_message(reply.people[0]))
    np.testing.assert_array_equal(found[0].pose[1:], sent[0].pose[1:])

    def acceleration(people):
        return np.abs(np.diff([p.joints3d for p in people], 2, axis=0)).mean()
    assert acceleration(found[5:]) < 0.5 * acceleration(sent[5:])
    last = found[-1]
    _, joints = BODY.skin(rotations.axis_angle_to_matrix(last.pose)[None], last.betas[None],
                          last.transl[None])
    np.testing.assert_allclose(last.joints3d, joints[0], atol=1e-5)
    np.testing.assert_allclose(last.joints2d, CAMERA.project(joints[0]), atol=0.01)
    np.testing.assert_array_equal(last.feature, sent[-1].feature)
    status = graph.status_of(node, lambda s: value_of(s, 'method') == 'one_euro')
    assert value_of(status, 'reason') == 'the manifest has no temporal engine'
    assert value_of(status, 'tracks') == '1' and value_of(status, 'failures') == '0'


def test_nobody_is_a_message_too_and_so_is_goodbye(graph, smoother):
    node = smoother()
    assert not answer(graph, message_of(0, [])).people
    assert answer(graph, message_of(1, [person(1)])).people
    # What mesh_recovery says when it is deactivated: no camera.
    header = message_of(2, []).header
    assert not answer(graph, SmplArray(header=header)).people
    node.trigger_deactivate()
    goodbye = graph.next_on('smpl_smoothed')
    assert not goodbye.people and goodbye.header == header
    node.trigger_activate()
    graph.until(node._publisher.get_subscription_count, 'the probe')
    graph.until(lambda: graph.probe.count_subscribers('smpl'), 'the subscription')
    again = person(2)
    np.testing.assert_allclose(
        person_from_message(answer(graph, message_of(3, [again])).people[0]).joints3d,
        again.joints3d, atol=1e-5, err_msg='nobody is remembered')


def test_a_temporal_engine_smooths_what_it_was_trained_on_and_nothing_else(
        graph, smoother, engine_path):
    node = smoother(temporal_engine=str(engine_path))
    reference, hidden = load_engine(str(engine_path)), np.zeros((LAYERS, 2, WIDTH), np.float32)
    for i in range(4):
        people = [person(i, 'p1'), person(20 + i, 'p2')]
        reply = answer(graph, message_of(i, people))
        outputs = reference.run({
            'feature': np.stack([p.feature for p in people]), 'h_in': hidden})
        hidden = outputs['h_out']
        for row, found in enumerate(map(person_from_message, reply.people)):
            matrices = rotations.matrix_from_6d(outputs['pose6d'][row].reshape(24, 6))
            np.testing.assert_allclose(
                rotations.axis_angle_to_matrix(found.pose), matrices, atol=1e-5)
            np.testing.assert_allclose(found.betas, outputs['betas'][row], atol=1e-5)
    status = graph.status_of(node, lambda s: value_of(s, 'method') == 'learned')
    assert value_of(status, 'reason') == 'there is an engine for the features of mesh'
    assert value_of(status, 'temporal_engines') == 'temporal'

    other = person(30)
    reply = answer(graph, message_of(4, [other], engine='other', engine_sha256='a' * 64))
    np.testing.assert_allclose(
        person_from_message(reply.people[0]).body_pose, other.body_pose, atol=1e-6)
    status = graph.status_of(node, lambda s: value_of(s, 'method') == 'one_euro')
    assert 'trained on the features of other (aaaaaaaaaaaa)' in value_of(status, 'reason')


def test_method_one_euro_loads_no_engine(graph, smoother, engine_path):
    node = smoother(method='one_euro', temporal_engine=str(engine_path))
    answer(graph, message_of(0, [person(1)]))
    status = graph.status_of(node, lambda s: value_of(s, 'method') == 'one_euro')
    assert value_of(status, 'reason') == 'parameter method says so'


@pytest.mark.parametrize('file, words', [
    ('none.onnx', ['none.onnx', 'cannot be read']), ('', ['no temporal engine', 'is learned']),
    ('without_entry.onnx', ['features_of', 'entry'])])
def test_method_learned_needs_an_engine_and_auto_says_why_it_has_none(
        graph, smoother, tmp_path, file, words):
    write_temporal_mock(tmp_path / 'without_entry.onnx')
    path = str(tmp_path / file) if file else ''
    node = smoother(method='learned', temporal_engine=path)
    assert not node.is_active
    status = graph.status_of(node, lambda s: s.level == DiagnosticStatus.ERROR)
    assert all(word in status.message for word in ['configure failed', *words]), status.message
    if file:
        node = smoother(method='auto', temporal_engine=path)
        answer(graph, message_of(0, [person(1)]))
        status = graph.status_of(node, lambda s: value_of(s, 'method') == 'one_euro')
        assert all(word in value_of(status, 'reason') for word in words)


@pytest.mark.parametrize('names, level', [
    (['other'], DiagnosticStatus.ERROR), (['other', 'temporal'], DiagnosticStatus.WARN)])
def test_an_engine_of_another_body_is_refused_and_the_others_are_used(
        graph, engine_path, names, level):
    class Refused:
        backend, precision, reason = 'none', 'fp32', 'it is a stand-in'
        name, closed, entry = 'other', False, type('Entry', (), {
            'features_of': MESH_ENGINE, 'body_model': 'smpl', 'body_model_sha256': 'b' * 64})

        def close(self):
            self.closed = True

    engines = {'other': Refused(), 'temporal': load_engine(str(engine_path))}
    node = graph.make(
        TemporalSmootherNode, {'method': 'learned'}, list_engines=lambda: names,
        open_engine=lambda name, *_: engines[name])
    status = graph.status_of(node, lambda s: "'smpl' (bbbbbbbbbbbb)" in s.message)
    assert status.level == level and node.is_active == (len(names) > 1)
    if node.is_active:
        assert value_of(status, 'temporal_engines') == 'temporal'
    node.destroy_node()
    graph.nodes.remove(node)
    assert engines['other'].closed


def broken_people():
    nan = person(1, 'p2', transl=np.float32([0, np.nan, 3]))
    return {
        'numbers that are not finite': ([nan], {}, 0, ['1 people', 'not finite', 'left out']),
        'nobody tracks them': ([person(1, '')], {}, 1, ['1 people', 'track']),
        'an id twice': ([person(1, 'p2'), person(2, 'p2')], {}, 2, ['1 people', 'track id']),
        'another body': ([person(1)], {'body_model': 'other', 'body_model_sha256': 'a' * 64}, 1,
                         ['body model other', 'set body_model alike']),
        'another layout': ([person(1)], {'layout': 7}, 1, ['LAYOUT_SMPL']),
        'no camera': ([person(1)], {'camera': np.zeros(4, np.float32)}, 1, ['fx=0.0']),
        'an unknown camera source': ([person(1)], {'camera_source': 9}, 1, ['CAMERA_*']),
    }


@pytest.mark.parametrize('case', sorted(broken_people()))
def test_bad_people_are_named_and_the_next_message_is_smoothed(graph, smoother, case):
    people, changes, left, words = broken_people()[case]
    node = smoother()
    for i in range(3):
        message = message_of(i, people, **changes)
        reply = answer(graph, message)
        assert len(reply.people) == left
        if changes:
            assert repr(reply) == repr(as_received(message)), 'passed on untouched'
    status = graph.status_of(node, lambda s: all(word in s.message for word in words))
    assert status.level == DiagnosticStatus.WARN
    graph.until(lambda: graph.logged(*words), 'the log line')
    assert len(graph.logged(*words)) == 1 and node.is_active
    for i in (3, 4):
        reply = answer(graph, message_of(i, [person(i)]))
    assert value_of(graph.status_of(node, lambda s: True), 'failures') == '0'
    assert np.abs(person_from_message(reply.people[0]).body_pose - person(4).body_pose).max() > 0.01


def test_features_of_a_wrong_length_pass_on(graph, smoother, engine_path):
    node = smoother(temporal_engine=str(engine_path))
    odd = person(1, feature=np.zeros(3, np.float32))
    reply = answer(graph, message_of(0, [odd, person(2, 'p2')]))
    np.testing.assert_array_equal(person_from_message(reply.people[0]).pose, odd.pose)
    assert node.diagnostics.counters['people_passed_on'] == 1


def test_stamps_that_go_back_are_counted_and_everybody_starts_fresh(graph, smoother):
    node = smoother()
    for i in range(5):
        answer(graph, message_of(i, [person(i)]))
    first = person(9)
    reply = answer(graph, message_of(0, [first]))
    np.testing.assert_array_equal(person_from_message(reply.people[0]).betas, first.betas)
    status = graph.status_of(node, lambda s: 'stamps went back' in s.message)
    assert value_of(status, 'stamps_went_back') == '1'


def test_cutoffs_change_while_it_runs(graph, smoother):
    from rclpy.parameter import Parameter
    node = smoother()
    answer(graph, message_of(0, [person(0)]))
    result = node.set_parameters([Parameter('one_euro.rotation.min_cutoff_hz', value=1000.0),
                                  Parameter('one_euro.rotation.min_cutoff_hz', value=0.0),
                                  Parameter('method', value='learned')])
    assert [one.successful for one in result] == [True, False, False]
    for i in (1, 2):
        reply = answer(graph, message_of(i, [person(i)]))
    np.testing.assert_allclose(
        person_from_message(reply.people[0]).body_pose, person(2).body_pose, atol=0.05)


@pytest.mark.parametrize('name, value', [
    ('method', 'gru'), ('max_gap_s', -0.1), ('max_gap_s', 1), ('max_tracks', 0),
    ('one_euro.shape.speed_weight', -1.0)])
def test_a_bad_parameter_is_named_with_what_is_allowed(graph, name, value):
    with pytest.raises(NodeError, match=f'parameter {name} is {value!r}; allowed'):
        graph.make(TemporalSmootherNode, {name: value}, start=False)


def test_a_failing_engine_is_shown_and_survived(graph, engine_path):
    engine = load_engine(str(engine_path))
    node = graph.make(TemporalSmootherNode, {'temporal_engine': 'x'}, open_engine=lambda *_: engine)
    graph.listen(SmplArray, 'smpl_smoothed')
    graph.until(node._publisher.get_subscription_count, 'the probe')
    run = engine.run

    def fail(feeds):
        raise EngineError('one hiccup')
    engine.run = fail
    graph.publish('smpl', message_of(0, [person(0)]))
    graph.status_of(node, lambda s: 'one hiccup' in s.message)
    engine.run = run
    assert answer(graph, message_of(1, [person(1)])).people


@pytest.mark.parametrize('names, topic', [
    (['mesh_markers', 'temporal_smoother'], 'smpl_smoothed'), (['mesh_markers'], 'smpl')])
def test_markers_read_the_smoothed_people_where_there_are_some(graph, names, topic):
    made = make_nodes(names, namespace=graph.namespace, context=graph.context)
    graph.nodes += made.values()
    markers = made['mesh_markers']
    assert markers.resolve_topic_name('smpl') == f'{graph.namespace}/{topic}'
    if len(made) > 1:
        smoother = made['temporal_smoother']
        assert smoother.resolve_topic_name('smpl') == f'{graph.namespace}/smpl'


def test_the_benchmark_runs_both_methods(engine_path):
    rows = [benchmark_smoother(engine, 2, frames=5) for engine in ('', str(engine_path))]
    assert [row['method'] for row in rows] == ['one_euro', 'learned']
    assert all(0 < row['p50_ms'] <= row['p95_ms'] and row['people'] == 2 for row in rows)
