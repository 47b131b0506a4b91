# SPDX-License-Identifier: Apache-2.0
"""The node digitizer, live, with networks that know a body."""

from __future__ import annotations

from pathlib import Path
import select
import signal
import subprocess
import sys
import threading
import time

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker

trimesh = pytest.importorskip('trimesh', reason='trimesh is not installed')
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'perception'))
from digitizer_networks import TrueNetworks  # noqa: E402
from digitizer_people import POINTS  # noqa: E402
from digitizer_shapes import depths, ELLIPSOID, ellipsoid_hits  # noqa: E402

from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.msg import DigitizeProgress, Keypoints2DArray, SmplArray  # noqa: E402
from hmr_ros.nodes.conversions import (  # noqa: E402
    camera_to_message, image_message, keypoints_to_message, person_to_message)
from hmr_ros.nodes.digitizer import DigitizerNode  # noqa: E402
from hmr_ros.nodes.qos import image_qos, latched_qos  # noqa: E402
from hmr_ros.perception.camera import Camera  # noqa: E402
from hmr_ros.perception.digitizer.digitization import STAGES  # noqa: E402
from hmr_ros.perception.person import Person, PersonKeypoints  # noqa: E402
from hmr_ros.perception.posing import smpl_pose  # noqa: E402
from hmr_ros.srv import Digitize  # noqa: E402

pytestmark = pytest.mark.ros

SIDE = 512
#: the person of the sheet's test vector, in an image of SIDE pixels.
JOINTS = POINTS[:17] * SIDE / 2048
BOX = np.float32([175, 60, 340, 460])
CAMERA = Camera(766.0, 766.0, SIDE / 2, SIDE / 2, SIDE, SIDE)
DISTANCE_M, HEIGHT_M = 3.5, 1.8


class KnownNetworks(TrueNetworks):
    """Networks for an ellipsoid; `gate` holds them up, and `error` is raised."""

    def __init__(self):
        super().__init__(*depths(ellipsoid_hits(ELLIPSOID, SIDE)))
        self.gate, self.entered, self.error = threading.Event(), threading.Event(), None
        self.gate.set()

    def low(self, image):
        self.entered.set()
        assert self.gate.wait(20)
        if self.error:
            raise self.error
        return super().low(image)


class KnownDigitizer(DigitizerNode):
    """The node, with other networks."""

    networks: KnownNetworks

    def open_networks(self):
        return self.networks


class Scene:
    """A running node, and how to send frames and calls to it."""

    def __init__(self, graph, parameters):
        self.graph, self.networks = graph, KnownNetworks()
        node_class = type('Known', (KnownDigitizer,), {'networks': self.networks})
        self.node = graph.make(node_class, {'person_height_m': HEIGHT_M, **parameters})
        graph.listen(DigitizeProgress, 'digitize_progress')
        self.digitize = graph.probe.create_client(Digitize, 'digitize')
        self.stop = graph.probe.create_client(Trigger, 'cancel_digitize')
        graph.until(lambda: self.digitize.service_is_ready() and self.stop.service_is_ready()
                    and self.node._progress.get_subscription_count(), 'the services')

    def send(self, people=None, bodies=None, header=None):
        """Publish a frame, by default with one person, and wait until the node has it."""
        people = [somebody()] if people is None else people
        before = self.node._sights.newest
        header = send_frame(self.graph, people, header or self.graph.header(), bodies)
        if people:
            self.graph.until(lambda: self.node._sights.newest is not before, 'the frame')
        return header

    def call(self, **request):
        """Call the service; returns the future of the answer."""
        return self.digitize.call_async(Digitize.Request(**request))

    def answer(self, future):
        return self.graph.until(lambda: future.done() and future.result(), 'the answer')

    def refused(self, *words, **request):
        answer = self.answer(self.call(**request))
        assert not answer.success and not answer.path
        assert all(word in answer.message for word in words), answer.message
        return answer

    def cancel(self):
        return self.answer(self.stop.call_async(Trigger.Request()))

    def told(self):
        return [message.stage for message in self.graph.received['digitize_progress']]

    def hold(self):
        """Hold up the networks, and return the future of a call that they hold up."""
        self.networks.gate.clear()
        self.networks.entered.clear()
        future = self.call()
        self.graph.until(self.networks.entered.is_set, 'the networks to be at work')
        return future


def send_frame(graph, people, header, bodies=None):
    """Publish what belongs to one image; returns the header."""
    pixels = np.full((SIDE, SIDE, 3), (40, 90, 200), np.uint8)
    graph.publish('camera_info', CameraInfo(
        header=header, width=SIDE, height=SIDE,
        k=[766.0, 0.0, SIDE / 2, 0.0, 766.0, SIDE / 2, 0.0, 0.0, 1.0]), image_qos())
    graph.publish('image', image_message(pixels, header), image_qos())
    if bodies is not None:
        message = SmplArray(
            header=header, body_model_sha256=load_body().sha256,
            people=[person_to_message(body) for body in bodies])
        camera_to_message(CAMERA, message)
        graph.publish('smpl', message)
    graph.publish('keypoints', keypoints_to_message(people, header, (SIDE, SIDE), FakeFacts))
    return header


class FakeFacts:
    name, sha256 = 'pose', 'a' * 64


def somebody(track_id='p0', joints=JOINTS, box=BOX, confidence=0.9):
    return PersonKeypoints(
        track_id, 0.9, np.float32(box), np.float32(joints), np.full(17, confidence, np.float32))


def standing(track_id='p0', box=BOX):
    """Somebody at rest DISTANCE_M before the camera, with arms stretched out."""
    body, place = load_body(), np.float32([0, 0, DISTANCE_M])
    person = Person(
        track_id, 0.9, np.float32(box), np.zeros((2, 3)), np.float32([np.pi, 0, 0]),
        np.zeros((23, 3), np.float32), np.zeros(10, np.float32),
        place - body.joint_template[0] * np.float32([1, -1, -1]), np.zeros((24, 3)),
        np.zeros((24, 2)), np.ones(24))
    _, joints = body.skin(*smpl_pose([person]), person.transl[None])
    return Person(**{**vars(person), 'joints3d': joints[0]})


@pytest.fixture
def start(graph, tmp_path):
    return lambda **parameters: Scene(graph, {'output_folder': str(tmp_path), **parameters})


@pytest.fixture
def scene(start):
    return start()


def test_a_call_leaves_a_mesh_in_metres_and_says_how_far_it_is(scene, tmp_path):
    header = scene.send()
    answer = scene.answer(scene.call())
    assert answer.success, answer.message
    assert answer.header == header and answer.track_id == 'p0'
    path, = tmp_path.iterdir()
    assert answer.path == str(path) and path.suffix == '.glb' and path.name.startswith('p0_')
    mesh = trimesh.load(path, force='mesh')
    assert (answer.vertices, answer.faces) == (len(mesh.vertices), len(mesh.faces))
    assert answer.watertight and mesh.volume > 0
    # The networks show an ellipsoid of ELLIPSOID, which is as tall as the person.
    assert answer.scale_source == Digitize.Response.SCALE_HEIGHT
    np.testing.assert_allclose(
        answer.size_m, HEIGHT_M * ELLIPSOID / ELLIPSOID[1], rtol=0.03)
    np.testing.assert_allclose(mesh.extents, answer.size_m, atol=1e-3)
    # A GLB looks along -z.
    assert mesh.centroid[2] < 0
    assert np.linalg.norm(mesh.centroid) == pytest.approx(answer.distance_m, rel=0.02)
    assert set(answer.dropped_parts) == {'left_foot', 'right_foot'}, 'COCO has no feet'
    stages = (*STAGES, 'mesh', 'write')
    assert tuple(answer.stages) == stages and all(answer.stage_ms[i] >= 0 for i in range(7))
    assert list(dict.fromkeys(scene.told())) == ['queued', 'image', *stages, 'done']
    shares = [message.done for message in scene.graph.received['digitize_progress']]
    assert shares == sorted(shares) and shares[-1] == 1
    assert scene.node.diagnostics.counters['jobs_done'] == 1


def test_a_body_gives_the_distance_and_what_coco_lacks(scene):
    # Bodies are waited for while they come.
    scene.send(bodies=[standing()])
    scene.send(bodies=[standing('p1', BOX + 1), standing()])
    answer = scene.answer(scene.call(format='ply'))
    assert answer.success, answer.message
    assert answer.scale_source == Digitize.Response.SCALE_BODY
    assert answer.distance_m == pytest.approx(DISTANCE_M, rel=0.02)
    assert not answer.dropped_parts
    mesh = trimesh.load(answer.path, force='mesh')
    # The optical frame: ahead is z.
    np.testing.assert_allclose(
        (mesh.bounds[0] + mesh.bounds[1]) / 2, [0, 0, DISTANCE_M], atol=0.15)
    red, green, blue, _ = mesh.visual.vertex_colors[0]
    assert (red, green, blue) == (200, 90, 40)


def test_a_foreign_body_is_refused(scene):
    for _ in range(2):
        scene.send(bodies=[standing()])
    scene.node._sights.newest.bodies.body_model_sha256 = 'f' * 64
    scene.refused('body_model')


def test_the_mesh_is_shown_to_whoever_comes_later(start):
    scene = start(marker_faces=3000)
    header = scene.send()
    answer = scene.answer(scene.call())
    scene.graph.listen(Marker, 'digitized_mesh', latched_qos())
    marker = scene.graph.next_on('digitized_mesh')
    assert marker.header == header and marker.type == Marker.TRIANGLE_LIST
    assert 1000 < len(marker.points) / 3 <= 3000 < answer.faces
    assert len(marker.colors) == len(marker.points)
    assert marker.colors[0].r == pytest.approx(200 / 255) and marker.colors[0].a == 1
    distance = np.mean([point.z for point in marker.points])
    assert distance == pytest.approx(answer.distance_m, rel=0.02)
    scene.node.trigger_deactivate()
    assert scene.graph.next_on('digitized_mesh').action == Marker.DELETE


def test_no_marker_is_made_when_none_is_wanted(start):
    scene = start(marker_faces=0)
    scene.graph.listen(Marker, 'digitized_mesh', latched_qos())
    scene.send()
    assert scene.answer(scene.call()).success
    assert not scene.graph.received['digitized_mesh']


def test_calls_wait_in_a_queue_and_more_are_refused(start, tmp_path):
    scene = start(queue_size=1)
    scene.send([somebody(), somebody('p1', JOINTS, BOX - 1)])
    first, second = scene.hold(), scene.call(track_id='p1')
    scene.graph.until(lambda: scene.told().count('queued') == 2, 'the second call to wait')
    scene.refused('queue_size allows 1')
    assert not first.done() and not second.done()
    scene.networks.gate.set()
    assert [scene.answer(future).track_id for future in (first, second)] == ['p0', 'p1']
    assert len(list(tmp_path.iterdir())) == 2


def test_two_calls_for_one_person_of_one_frame_have_files_of_their_own(start, tmp_path):
    scene = start(queue_size=1)
    scene.send()
    first, second = scene.hold(), scene.call()
    scene.graph.until(lambda: scene.told().count('queued') == 2, 'the second call to wait')
    scene.networks.gate.set()
    paths = {scene.answer(future).path for future in (first, second)}
    assert paths == {str(path) for path in tmp_path.iterdir()} and len(paths) == 2


def test_without_a_queue_a_second_call_is_refused(start):
    scene = start(queue_size=0)
    scene.send()
    first = scene.hold()
    scene.refused('queue_size allows 0')
    scene.networks.gate.set()
    assert scene.answer(first).success
    assert scene.answer(scene.call()).success


def test_cancelling_ends_all_calls_and_leaves_no_file(scene, tmp_path):
    scene.send()
    assert not scene.cancel().success
    calls = [scene.hold(), scene.call()]
    scene.graph.until(lambda: scene.told().count('queued') == 2, 'the second call to wait')
    answer = scene.cancel()
    assert answer.success and '2 calls' in answer.message
    scene.networks.gate.set()
    for future in calls:
        answer = scene.answer(future)
        assert not answer.success and 'cancelled' in answer.message
    assert scene.told()[-1] == 'cancelled' and not list(tmp_path.iterdir())
    assert scene.node.diagnostics.counters['jobs_cancelled'] == 2
    assert scene.answer(scene.call()).success, 'the next call is not cancelled'


def test_callers_are_answered_when_the_node_is_deactivated(scene, tmp_path):
    scene.send()
    future = scene.hold()
    # Deactivation waits for the worker.
    threading.Timer(0.3, scene.networks.gate.set).start()
    scene.node.trigger_deactivate()
    answer = scene.answer(future)
    assert not answer.success and 'deactivated' in answer.message
    assert not list(tmp_path.iterdir())
    scene.refused('not active')
    scene.node.trigger_activate()
    scene.send()
    assert scene.answer(scene.call()).success


def test_the_executor_is_free_while_the_worker_works(scene):
    scene.send()
    future, before = scene.hold(), scene.node.diagnostics.counters['frames_processed']
    for _ in range(3):
        scene.send()
    assert scene.node.diagnostics.counters['frames_processed'] == before + 3
    # Nor does the waiting call keep a processor busy.
    start, used = time.monotonic(), time.process_time()
    while time.monotonic() < start + 0.5:
        scene.graph.executor.spin_once(timeout_sec=0.1)
    assert time.process_time() - used < 0.25
    scene.networks.gate.set()
    assert scene.answer(future).success


@pytest.mark.parametrize('request_, words', [
    ({'track_id': 'p7'}, ("'p7'", 'p0')),
    ({'format': 'obj'}, ("format is 'obj'", 'glb, ply')),
    ({'method': 'marching'}, ("method is 'marching'", 'direct, poisson')),
    ({'resolution': 2048}, ('resolution is 2048', '512')),
    ({'folder': '/proc/nothing'}, ('/proc/nothing', 'choose another'))])
def test_what_cannot_be_done_is_refused_by_name(scene, request_, words):
    scene.send()
    scene.refused(*words, **request_)
    assert scene.answer(scene.call(resolution=SIDE)).success


def mirrored(joints):
    return joints * (-1, 1) + (SIDE, 0)


CUT_OFF = JOINTS + (0, 150)


@pytest.mark.parametrize('person, words', [
    (somebody(joints=mirrored(JOINTS)), ('from behind',)),
    (somebody(joints=CUT_OFF), ('cut off', 'outside the image')),
    (somebody(joints=np.full((17, 2), np.nan)), ('0 of the four joints of the torso',)),
    (somebody(confidence=0.0), ('0 of the four joints of the torso',))])
def test_people_who_cannot_be_digitized_are_refused(scene, person, words):
    scene.send([person])
    scene.refused(*words)
    status = scene.graph.status_of(scene.node, lambda s: words[0] in s.message)
    assert status.level == DiagnosticStatus.WARN


def test_how_much_may_be_cut_off_is_a_parameter(scene):
    scene.send([somebody(joints=CUT_OFF)])
    scene.node.set_parameters([Parameter('max_cut_off', value=0.6)])
    assert scene.answer(scene.call()).success


def test_without_a_fresh_frame_calls_are_refused(start):
    scene = start(max_age_s=0.5)
    scene.refused('no frame with people')
    scene.send([])
    scene.refused('no frame with people')
    scene.send()
    time.sleep(0.6)
    scene.refused('s old')


def test_keypoints_of_another_set_are_refused(scene):
    scene.send()
    scene.node._sights.newest.keypoints.joint_set = Keypoints2DArray.JOINT_SET_SMPL24
    scene.refused('joint set')


def test_a_failure_is_an_answer_and_the_node_goes_on(scene, tmp_path):
    scene.send()
    scene.networks.error = RuntimeError('out of memory')
    scene.refused('RuntimeError', 'out of memory')
    assert scene.told()[-1] == 'failed' and not list(tmp_path.iterdir())
    scene.networks.error = None
    assert scene.answer(scene.call()).success


def test_callers_are_answered_when_the_end_cannot_be_told(scene, monkeypatch):
    scene.send()
    tell = scene.node._tell

    def fail_at_the_end(job, stage, *rest):
        if stage == 'done':
            raise RuntimeError('no publisher')
        tell(job, stage, *rest)
    monkeypatch.setattr(scene.node, '_tell', fail_at_the_end)
    assert scene.answer(scene.call()).success
    assert not scene.node._jobs


def test_octree_depths_of_no_octree_are_refused(start):
    scene = start(octree_depth=2)
    scene.send()
    scene.refused('octree_depth is 2')


def test_engines_that_are_not_there_stop_the_node_at_configure(graph):
    node = graph.make(DigitizerNode, {'digitizer_engine': 'no_such'})
    assert not node.is_active
    assert 'no_such_low' in node.diagnostics.blocked
    assert 'hmr train digitizer_2k2k' in node.diagnostics.blocked


def test_a_marker_of_too_few_triangles_is_no_reason_to_refuse(start):
    scene = start(marker_faces=1)
    scene.send()
    assert scene.answer(scene.call()).success
    scene.graph.status_of(scene.node, lambda s: 'marker_faces' in s.message)


PROGRAM = """
import sys, threading
sys.path[:0] = {paths!r}
from hmr_ros.nodes.lifecycle import run_nodes
from test_digitizer import KnownDigitizer, KnownNetworks
networks = KnownNetworks()
KnownDigitizer.networks = networks
networks.gate.clear()
def make():
    node = KnownDigitizer()
    threading.Thread(target=lambda: (
        networks.entered.wait(), print('at work', flush=True), node.interrupted.wait(),
        networks.gate.set()), daemon=True).start()
    return [node]
sys.exit(run_nodes(make))
"""


def check_last_answer(graph, program):
    """Call the service of a program, tell it to end, and expect an answer all the same."""
    client = graph.probe.create_client(Digitize, 'digitize')
    graph.until(client.service_is_ready, 'the service')
    calls = []

    def at_work():
        return bool(select.select([program.stdout], [], [], 0)[0])

    def call():
        # Until the frame is there it is refused, and a first answer may come before the program
        # has found who asked, and be lost.
        calls.append(client.call_async(Digitize.Request()))
        patience = time.monotonic() + 5
        graph.until(lambda: calls[-1].done() or at_work() or time.monotonic() > patience,
                    'an answer, or the networks to be at work')
        return at_work()
    while not call():
        send_frame(graph, [somebody()], graph.header())
    program.send_signal(signal.SIGINT)
    answer = graph.until(lambda: calls[-1].done() and calls[-1].result(), 'the answer')
    assert not answer.success and 'deactivated' in answer.message
    assert program.wait(20) == 0


def test_callers_are_answered_when_the_program_is_told_to_end(graph, tmp_path):
    here = Path(__file__).resolve()
    paths = [str(here.parents[2]), str(here.parent)]
    with subprocess.Popen(
            [sys.executable, '-c', PROGRAM.format(paths=paths), '--ros-args', '-r',
             f'__ns:={graph.namespace}', '-p', f'output_folder:={tmp_path}', '-p',
             'max_age_s:=600.0'],
            stdout=subprocess.PIPE, text=True) as program:
        try:
            check_last_answer(graph, program)
        finally:
            # It would be waited for.
            program.kill()
    assert not list(tmp_path.iterdir())
