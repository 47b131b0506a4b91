# SPDX-License-Identifier: Apache-2.0
"""A graph for live nodes: one executor that the test itself turns, and a probe that listens."""

from __future__ import annotations

from collections import defaultdict
import itertools
from pathlib import Path
import sys
import time

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rcl_interfaces.msg import Log  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import CameraInfo  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.msg import PersonBox, PersonBoxArray  # noqa: E402
from hmr_ros.nodes.conversions import image_message  # noqa: E402
from hmr_ros.nodes.qos import image_qos, result_qos  # noqa: E402
from hmr_ros.perception import keypoint_guided  # noqa: E402
from hmr_ros.perception.camera import Camera  # noqa: E402
from hmr_ros.perception.crops import CropTransform  # noqa: E402

# Lets the tests of this room import their helper module `pose_engine`.
sys.path.insert(0, str(Path(__file__).parent))
from pose_engine import PoseEngine  # noqa: E402

NAMESPACES = itertools.count()
WIDTH, HEIGHT = 320, 240
BOX = np.float32([120, 60, 200, 220])
CAMERA = Camera(300.0, 300.0, 160.0, 120.0, WIDTH, HEIGHT)


def standing_person():
    """Engine outputs of a person at rest who fills BOX, whatever is in the crop."""
    body = load_body()
    betas = np.zeros((1, 10), np.float32)
    joints = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], 1)
    # Body axes to optical frame: half a turn about x.
    joints = (joints - joints[:, :1]) * (1, -1, -1) + (0, 0, 3.5)
    uvd, scale = keypoint_guided.encode(joints, [CropTransform.from_box(BOX, 256)], CAMERA)
    return {
        'uvd': np.concatenate([uvd, np.zeros((1, 67, 3))], 1), 'sigma': np.full((1, 96, 3), 0.1),
        'phi': np.tile([1.0, 0.0], (1, 23, 1)), 'betas': betas,
        'cam': np.stack([scale, 0 * scale, 0 * scale], 1)}


class FakeEngine:
    """Gives the same standing person for each crop; raises `error` when it is set."""

    name, backend, precision, sha256 = 'fake', 'onnxruntime', 'fp32', 'f' * 64
    reason = 'it is a stand-in'
    entry = None

    def __init__(self):
        self.outputs = {k: v.astype(np.float32) for k, v in standing_person().items()}
        self.error, self.batches, self.closed = None, [], False

    def run(self, feeds):
        if self.error:
            raise self.error
        self.batches.append(len(feeds['image']))
        return {k: np.repeat(v, len(feeds['image']), 0) for k, v in self.outputs.items()}

    def close(self):
        self.closed = True


class Graph:
    """Nodes under test in a namespace of their own, and everything they publish."""

    def __init__(self, context):
        self.context = context
        self.namespace = f'/test{next(NAMESPACES)}'
        self.executor = SingleThreadedExecutor(context=context)
        self.nodes = []
        self.received = defaultdict(list)
        self.probe = rclpy.create_node('probe', namespace=self.namespace, context=context)
        self.executor.add_node(self.probe)
        self._publishers = {}
        self.listen(DiagnosticArray, '/diagnostics', result_qos())
        self.listen(Log, '/rosout', 100)
        self._tick = 0

    def make(self, node_class, parameters=None, start=True, **arguments):
        """Make a node, and start it; parameters by name."""
        overrides = [Parameter(k, value=v) for k, v in (parameters or {}).items()]
        node = node_class(namespace=self.namespace, context=self.context,
                          parameter_overrides=overrides, **arguments)
        self.nodes.append(node)
        self.executor.add_node(node)
        if start:
            node.start()
        return node

    def listen(self, message_type, topic, qos=None):
        self.probe.create_subscription(
            message_type, topic, self.received[topic].append, qos or result_qos())

    def publish(self, topic, message, qos=None):
        if topic not in self._publishers:
            publisher = self.probe.create_publisher(type(message), topic, qos or result_qos())
            self._publishers[topic] = publisher
            self.until(publisher.get_subscription_count, f'a subscriber of {topic}')
        self._publishers[topic].publish(message)

    def until(self, condition, what, timeout_s=40.0):
        """Turn the executor until `condition` holds; returns its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f'waited {timeout_s} s for {what}'
            self.executor.spin_once(timeout_sec=0.02)
        return value

    def next_on(self, topic, count=1):
        """Wait for messages on a topic and take them out; returns the last one."""
        self.until(lambda: len(self.received[topic]) >= count, f'{count} messages on {topic}')
        last = self.received[topic][-1]
        self.received[topic].clear()
        return last

    def status_of(self, node, matches):
        """Wait for a diagnostic status of `node` for which `matches` holds."""
        def find():
            # Not to wait a second each time.
            node.publish_diagnostics()
            for message in self.received['/diagnostics']:
                for status in message.status:
                    if status.name == node.get_fully_qualified_name()[1:] and matches(status):
                        return status
            return None
        return self.until(find, f'a diagnostic status of {node.get_name()}')

    def logged(self, *words):
        """Return log lines of this namespace that hold all `words`."""
        name = self.namespace[1:]
        return [log.msg for log in self.received['/rosout']
                if log.name.startswith(name) and all(word in log.msg for word in words)]

    def header(self):
        """Return the header of the next frame, stamped now."""
        return Header(stamp=self.probe.get_clock().now().to_msg(), frame_id='camera')

    def send_frame(self, image=None, boxes=(BOX,), header=None, info=None):
        """Publish camera_info, image and boxes with one stamp; returns the header."""
        header = header or (image.header if image is not None else self.header())
        if info is not False:
            info = info or CameraInfo(
                width=WIDTH, height=HEIGHT, k=[300.0, 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0])
            info.header = header
            self.publish('camera_info', info, image_qos())
        if image is None:
            image = image_message(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), header)
        image.header = header
        self.publish('image', image, image_qos())
        self.publish('person_boxes', PersonBoxArray(
            header=header, image_width=WIDTH, image_height=HEIGHT,
            boxes=[PersonBox(track_id=f'p{i}', score=0.9, box=np.float32(box))
                   for i, box in enumerate(boxes)]))
        return header

    def close(self):
        for node in self.nodes:
            node.stop()
        for node in [*self.nodes, self.probe]:
            node.destroy_node()
        self.executor.shutdown()


def is_error(status):
    return status.level == DiagnosticStatus.ERROR


@pytest.fixture(scope='session')
def context():
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def graph(context):
    graph = Graph(context)
    yield graph
    graph.close()


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def pose():
    return PoseEngine()


@pytest.fixture
def recovery(graph, engine):
    """Return a running mesh_recovery with a fake engine, and listen to its people."""
    from hmr_ros.msg import SmplArray
    from hmr_ros.nodes.mesh_recovery import MeshRecoveryNode
    node = graph.make(MeshRecoveryNode, open_engine=lambda *_: engine)
    graph.listen(SmplArray, 'smpl')
    graph.until(lambda: node._publisher.get_subscription_count(), 'the probe to be seen')
    return node
