# SPDX-License-Identifier: Apache-2.0
"""Parameter refine of the node mesh_recovery, live."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from pose_engine import BOXES
import pytest
from rclpy.parameter import Parameter

from hmr_ros.body import load_body
from hmr_ros.body.coco import face_vertices, LIMBS
from hmr_ros.msg import SmplArray
from hmr_ros.nodes.conversions import camera_from_message, person_from_message
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.mesh_recovery import MeshRecoveryNode
from hmr_ros.perception.rotations import axis_angle_to_matrix
from hmr_ros.runtime import EngineError

pytestmark = pytest.mark.ros
BODY = load_body()
#: by how many pixels keypoints lie beside where the bodies' engine puts the body.
ASIDE = np.array([9.0, -6.0])


def coco_pixels(message):
    """Pixels `(N, 17, 2)` at which the people of a message show COCO's keypoints."""
    camera, rows = camera_from_message(message), []
    for person in map(person_from_message, message.people):
        rotmats = axis_angle_to_matrix(person.pose)[None]
        face, _ = BODY.skin_few(face_vertices(BODY), rotmats, person.betas[None])
        rows.append(camera.project(
            np.concatenate([face[0] + person.transl, person.joints3d[LIMBS]])))
    return np.stack(rows)


@pytest.fixture
def start(graph, engine, pose):
    """Return how to run mesh_recovery with a bodies' engine and one for keypoints."""
    def run(parameters=None):
        node = graph.make(
            MeshRecoveryNode, {'refine': 'keypoints', 'keypoint_engine': 'pose',
                               **(parameters or {})},
            open_engine=lambda name, *_: pose if name == 'pose' else engine)
        graph.listen(SmplArray, 'smpl')
        graph.until(node._publisher.get_subscription_count, 'the listener')
        return node
    return run


def next_people(graph, boxes=BOXES):
    graph.received['smpl'].clear()
    header = graph.send_frame(boxes=boxes)
    message = graph.next_on('smpl')
    assert message.header == header
    return message


def unrefined(graph, node):
    """People as the bodies' engine says: keypoints need more than their confidence here."""
    node.set_parameters([Parameter('min_keypoint_score', value=1.0)])
    message = next_people(graph)
    node.set_parameters([Parameter('min_keypoint_score', value=0.02)])
    return message


def test_people_show_their_joints_at_the_keypoints(graph, start, engine, pose):
    node = start()
    before = unrefined(graph, node)
    pose.points = coco_pixels(before) + ASIDE
    after = next_people(graph)
    assert [p.track_id for p in after.people] == ['p0', 'p1']
    errors = [np.linalg.norm(coco_pixels(message) - pose.points, axis=-1).mean()
              for message in (before, after)]
    # What is left is half a bin of a crop's pixels, and trust in the depth that was.
    assert errors[0] == pytest.approx(np.linalg.norm(ASIDE)) and errors[1] < 1.5
    for old, new in zip(before.people, after.people):
        np.testing.assert_array_equal(new.body_pose, old.body_pose)
        np.testing.assert_array_equal(new.box, old.box)
    assert engine.batches == pose.batches == [2, 2], 'one batch of each engine a frame'


def test_the_message_names_the_engine_of_the_bodies_and_diagnostics_both(graph, start):
    node = start()
    message = next_people(graph)
    assert (message.engine, message.engine_sha256) == ('fake', 'f' * 64)
    facts = node.diagnostics.facts
    assert facts['engine'] == 'fake'
    assert (facts['keypoint_engine'], facts['keypoint_engine_sha256']) == ('pose', 'a' * 64)
    latency = node.diagnostics.summary()['latency_ms']
    assert all(latency[stage]['p50'] > 0 for stage in ('keypoints', 'refine', 'decode_ik'))


def test_who_has_too_few_keypoints_is_published_unrefined_and_counted(graph, start, pose):
    node = start()
    before = unrefined(graph, node)
    counters = node.diagnostics.counters
    assert (counters['people_refined'], counters['people_unrefined']) == (0, 2)
    pose.points = coco_pixels(before) + ASIDE
    pose.peaks[1, 5:] = 0.0
    after = next_people(graph)
    assert after.people[0].transl[0] > before.people[0].transl[0] + 0.05
    assert after.people[1] == before.people[1]
    assert (counters['people_refined'], counters['people_unrefined']) == (1, 3)


@pytest.mark.parametrize('change, words', [
    (lambda outputs: {'simcc_x': outputs['simcc_x']}, ['unrefined', 'simcc_y ()']),
    (lambda outputs: (_ for _ in ()).throw(EngineError('one hiccup')),
     ['unrefined', 'one hiccup'])])
def test_without_keypoints_people_are_published_unrefined(graph, start, pose, change, words):
    node = start()
    before = unrefined(graph, node)
    pose.change = change
    assert next_people(graph).people == before.people
    status = graph.status_of(node, lambda s: all(word in s.message for word in words))
    assert status.level == DiagnosticStatus.WARN and node.is_active
    assert node.diagnostics.counters['frames_unrefined'] == 1
    pose.points, pose.change = coco_pixels(before) + ASIDE, lambda outputs: outputs
    assert next_people(graph).people != before.people
    assert node.diagnostics.counters['frames_unrefined'] == 1


def test_one_person_without_keypoints_leaves_the_others_refined(graph, start, pose):
    def spoil(outputs):
        outputs['simcc_x'][0, 3, 5] = np.nan
        return outputs
    node = start()
    before = unrefined(graph, node)
    pose.points, pose.change = coco_pixels(before) + ASIDE, spoil
    after = next_people(graph)
    assert after.people[0] == before.people[0] and after.people[1] != before.people[1]


def test_nobody_needs_no_keypoints(graph, start, pose):
    start()
    assert not next_people(graph, boxes=[]).people and not pose.batches


def test_by_default_no_engine_of_keypoints_is_opened(graph, recovery, pose, engine):
    next_people(graph)
    assert not pose.batches and engine.batches == [2]
    assert 'keypoint_engine' not in recovery.diagnostics.facts
    assert 'frames_unrefined' not in recovery.diagnostics.counters


def test_both_engines_are_freed(graph, start, engine, pose):
    node = start()
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert engine.closed and pose.closed


def test_without_an_engine_of_keypoints_configure_says_how_to_get_one(
        graph, engine, tmp_path, monkeypatch):
    (tmp_path / 'manifest.yaml').write_text('engines: {}\n')
    monkeypatch.setenv('HMR_ENGINES_DIR', str(tmp_path))

    def open_engine(name, *_):
        if name == 'keypoint_guided':
            return engine
        raise EngineError(f'no engine {name!r}')
    node = graph.make(MeshRecoveryNode, {'refine': 'keypoints'}, open_engine=open_engine)
    assert not node.is_active
    status = graph.status_of(node, lambda s: s.level == DiagnosticStatus.ERROR)
    assert all(word in status.message for word in (
        'configure failed', "no engine 'mgil'", 'hmr train mgil', 'keypoint_engine'))


@pytest.mark.parametrize('name, value, words', [
    ('refine', 'always', ['none, keypoints']),
    ('refine', True, ['none, keypoints']),
    ('keypoint_engine', 5, ['string']),
    ('min_keypoint_score', -0.1, ['0.0 to 1.0']),
    ('min_keypoint_score', 1, ['point']),
    ('score_mode', 'mean', ['auto, max, min'])])
def test_a_wrong_value_is_refused_by_name(graph, name, value, words):
    with pytest.raises(NodeError) as error:
        graph.make(MeshRecoveryNode, {name: value})
    assert all(word in str(error.value) for word in [name, repr(value), *words]), error.value
