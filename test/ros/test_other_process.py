# SPDX-License-Identifier: Apache-2.0
"""A process with nothing but rclpy and the installed messages receives people and markers."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from hmr_ros.nodes.mesh_markers import MeshMarkersNode

pytestmark = pytest.mark.ros

READER = '''
import json
import sys
import rclpy
from hmr_ros.msg import SmplArray
from visualization_msgs.msg import MarkerArray

people, markers = {}, {}

def stamp(header):
    return f'{header.stamp.sec}.{header.stamp.nanosec:09d} {header.frame_id}'

def on_people(message):
    if message.people:
        people[stamp(message.header)] = [p.track_id for p in message.people]

def on_markers(message):
    for marker in message.markers:
        markers.setdefault(stamp(marker.header), {})[marker.ns] = len(marker.points)

rclpy.init()
node = rclpy.create_node('reader', namespace=sys.argv[1])
node.create_subscription(SmplArray, 'smpl', on_people, 10)
node.create_subscription(MarkerArray, 'mesh_markers', on_markers, 10)
while len(set(people) & set(markers)) < 3:
    rclpy.spin_once(node, timeout_sec=1.0)
common = sorted(set(people) & set(markers))
print(json.dumps({'people': people, 'markers': markers, 'common': common}))
'''


def test_another_process_gets_people_and_markers_with_the_images_stamps(
        graph, recovery, tmp_path):
    markers = graph.make(MeshMarkersNode, {'max_rate_hz': 10.0})
    reader = subprocess.Popen(
        [sys.executable, '-c', READER, graph.namespace], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        graph.until(lambda: recovery._publisher.get_subscription_count() == 3
                    and markers._markers.get_subscription_count() == 1, 'the other process')
        sent = set()
        deadline = time.monotonic() + 60
        while reader.poll() is None and time.monotonic() < deadline:
            header = graph.send_frame()
            sent.add(f'{header.stamp.sec}.{header.stamp.nanosec:09d} {header.frame_id}')
            graph.next_on('smpl')
        output, errors = reader.communicate(timeout=40)
    finally:
        reader.kill()
    assert reader.returncode == 0, errors
    received = json.loads(output)
    assert len(received['common']) >= 3
    assert set(received['people']) <= sent and set(received['markers']) <= sent
    for stamp in received['common']:
        assert received['people'][stamp] == ['p0']
        assert received['markers'][stamp]['mesh'] == 3 * len(markers._shows.body.faces)
        assert set(received['markers'][stamp]) == {'mesh', 'skeleton', 'label'}
