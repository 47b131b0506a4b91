# SPDX-License-Identifier: Apache-2.0
"""A node that does everything itself the way nodes are usually written, and how fast that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import time
from typing import Any

import cv2
from geometry_msgs.msg import Point
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from hmr_ros.nodes.compat import init_without_signal_handlers
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import close_nodes, ManagedNode
from hmr_ros.nodes.pipeline import make_nodes
from hmr_ros.nodes.qos import image_qos, result_qos

#: vertices (V, 3) of each person in a picture, uint8 (H, W, 3) BGR.
FindPeople = Callable[[np.ndarray], list[np.ndarray]]
_MATCHING_S, _SPIN_S = 5.0, 0.05


@dataclass(frozen=True)
class ProcessedFrame:
    """When the image was taken and its markers were sent, in ns, and how many people it had."""

    taken_ns: int
    sent_ns: int
    people: int


class NaiveNode(Node):
    """Subscribes to `image` and publishes `mesh_markers`, all in one callback."""

    def __init__(self, find_people: FindPeople, faces: np.ndarray) -> None:
        super().__init__('naive')
        self._find_people, self._corners = find_people, faces.ravel()
        self.frames: list[ProcessedFrame] = []
        self._publisher = self.create_publisher(MarkerArray, 'mesh_markers', result_qos())
        # A queue, as is usual, would only add the time that images wait in it.
        self.create_subscription(Image, 'image', self._on_image, image_qos())

    def _on_image(self, message: Image) -> None:
        rows = np.array(message.data, np.uint8).reshape(message.height, message.width, 3)
        meshes = self._find_people(cv2.cvtColor(cv2.cvtColor(rows, cv2.COLOR_BGR2RGB),
                                                cv2.COLOR_RGB2BGR))
        self._publisher.publish(MarkerArray(markers=[
            self._marker(message, number, mesh) for number, mesh in enumerate(meshes)]))
        self.frames.append(ProcessedFrame(
            Time.from_msg(message.header.stamp).nanoseconds, self.get_clock().now().nanoseconds,
            len(meshes)))

    def _marker(self, message: Image, number: int, vertices: np.ndarray) -> Marker:
        marker = Marker(header=message.header, ns='mesh', id=number)
        marker.type, marker.pose.orientation.w = Marker.TRIANGLE_LIST, 1.0
        marker.scale.x = marker.scale.y = marker.scale.z = marker.color.a = 1.0
        marker.points = [Point(x=x, y=y, z=z) for x, y, z in vertices[self._corners].tolist()]
        return marker


def run_naive(
        find_people: FindPeople, faces: np.ndarray, source: str, duration_s: float,
        rate_hz: float = 0.0) -> dict[str, Any]:
    """
    Play `source`, again and again, to a NaiveNode for `duration_s` seconds.

    rate_hz  frames per second; 0: as recorded

    Returns fps, people_mean, dropped, latency_ms {p50, p95} from image stamp to sent markers, and
    cpu, the cores in use. Raises NodeError when the source cannot be played or nothing came out.
    """
    init_without_signal_handlers(None)
    executor, nodes, naive = SingleThreadedExecutor(), {}, None
    try:
        naive = NaiveNode(find_people, faces)
        nodes = make_nodes(('video_source',), {
            'video_source': {'source': source, 'loop': True, 'rate_hz': rate_hz}})
        for node in (naive, *nodes.values()):
            executor.add_node(node)
        cores = _play(nodes['video_source'], naive, executor, duration_s)
        published = nodes['video_source'].diagnostics.counters
        return {**_summary(naive.frames), 'cpu': cores, 'dropped': (
            published['frames_processed'] + published['frames_dropped'] - len(naive.frames))}
    finally:
        close_nodes(list(nodes.values()))
        if naive is not None:
            naive.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()


def _play(
        source: ManagedNode, naive: NaiveNode, executor: SingleThreadedExecutor,
        duration_s: float) -> float:
    """Run for a while once the nodes know each other; returns the cores in use."""
    if not source.start():
        raise NodeError(f'video_source: {source.diagnostics.blocked}')
    end = time.monotonic() + _MATCHING_S
    while not naive.frames and time.monotonic() < end:
        executor.spin_once(timeout_sec=_SPIN_S)
    # What came before, the first and slowest frame too, is warm-up.
    naive.frames.clear()
    source.diagnostics.counters.clear()
    used, begin = time.process_time(), time.monotonic()
    while time.monotonic() - begin < duration_s:
        executor.spin_once(timeout_sec=_SPIN_S)
    return (time.process_time() - used) / (time.monotonic() - begin)


def _summary(frames: list[ProcessedFrame]) -> dict[str, Any]:
    if len(frames) < 2:
        raise NodeError(f'{len(frames)} images were processed; give it more time (--duration)')
    sent = np.array([frame.sent_ns for frame in frames]) * 1e-9
    latency_ms = 1e3 * (sent - np.array([frame.taken_ns for frame in frames]) * 1e-9)
    p50, p95 = np.percentile(latency_ms, (50, 95))
    return {'fps': float((len(sent) - 1) / (sent[-1] - sent[0])),
            'people_mean': float(np.mean([frame.people for frame in frames])),
            'latency_ms': {'p50': float(p50), 'p95': float(p95)}}
