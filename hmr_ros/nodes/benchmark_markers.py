# SPDX-License-Identifier: Apache-2.0
"""How long a mesh marker takes through rclpy's own objects, and through numpy."""

from __future__ import annotations

from collections.abc import Callable
import statistics
import time

from geometry_msgs.msg import Point
import numpy as np
import rclpy
from rclpy.serialization import serialize_message
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from hmr_ros.nodes.marker_cdr import MarkerTemplate, serialize_markers
from hmr_ros.nodes.qos import result_qos

# An SMPL body.
VERTICES, FACES = 6890, 13776


def _marker() -> Marker:
    marker = Marker(header=Header(frame_id='camera_optical_frame'), ns='mesh')
    marker.type, marker.pose.orientation.w = Marker.TRIANGLE_LIST, 1.0
    return marker


def _with_rclpy(vertices: np.ndarray, corners: np.ndarray) -> bytes:
    marker = _marker()
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in vertices[corners].tolist()]
    return serialize_message(MarkerArray(markers=[marker]))


def _median_ms(work: Callable[[], object], repeats: int) -> float:
    # Once unmeasured: the first call pays for memory that a running node already has.
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def benchmark_markers(repeats: int = 15) -> dict[str, float]:
    """
    Measure both ways from the same vertices; medians in milliseconds.

    rclpy_ms is building and serialising with rclpy, cdr_ms is writing the template and publishing
    it. That both give the same bytes is a test. Returns rclpy_ms, cdr_ms, ratio, faces.
    """
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(VERTICES, 3)).astype(np.float32)
    corners = rng.integers(0, VERTICES, FACES * 3)
    template = MarkerTemplate(_marker(), corners)
    stamp = _marker().header.stamp

    def with_template() -> bytes:
        return serialize_markers(stamp, [(template, vertices)])

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('benchmark_markers', context=context)
    publisher = node.create_publisher(MarkerArray, 'benchmark_markers', result_qos())
    try:
        rclpy_ms = _median_ms(lambda: _with_rclpy(vertices, corners), repeats)
        cdr_ms = _median_ms(lambda: publisher.publish(with_template()), 4 * repeats)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    return {'rclpy_ms': rclpy_ms, 'cdr_ms': cdr_ms, 'ratio': rclpy_ms / cdr_ms, 'faces': FACES}
