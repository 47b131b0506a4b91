# SPDX-License-Identifier: Apache-2.0
"""
Markers as CDR bytes, written with numpy.

rclpy builds and serialises point lists element by element: a body takes a tenth of a second. Here
rclpy serialises a marker of one point, once; numpy then writes stamp and points of every frame
into that template. Layout rules of CDR that are used: a marker inside an array starts at a
multiple of 4 bytes, doubles at a multiple of 8, both counted from the end of the 4-byte header.
Bytes that only pad mean nothing: rclpy leaves in them whatever the memory held.
"""

from __future__ import annotations

from collections.abc import Sequence
import copy
import functools
import struct

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
import numpy as np
from rclpy.serialization import serialize_message
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

HEADER_BYTES = 4
# Where a marker starts when it is a message of its own, and as the first of an array.
PHASES = (0, 4)
SENTINEL = (-3.0e-201, 5.0e-203, -7.0e-205)
NO_CORNERS = np.zeros(0, np.intp)


def _serialized(marker: Marker, phase: int) -> np.ndarray:
    """Bytes of one marker that starts at `phase` modulo 8."""
    if phase:
        content = serialize_message(MarkerArray(markers=[marker]))[HEADER_BYTES + phase:]
    else:
        content = serialize_message(marker)[HEADER_BYTES:]
    return np.frombuffer(content, np.uint8)


@functools.lru_cache(maxsize=1)
def _encapsulation() -> bytes:
    """Return the four bytes before every message, which tell its byte order."""
    return serialize_message(MarkerArray())[:HEADER_BYTES]


class MarkerTemplate:
    """
    A marker of which only the stamp and the points change.

    Its points are those of a frame's point set at the indices `corners`; `marker.points` is
    ignored. Not for several threads at once, because `write` reuses its buffer.
    """

    def __init__(self, marker: Marker, corners: np.ndarray = NO_CORNERS) -> None:
        self._marker = copy.deepcopy(marker)
        self._corners = np.ascontiguousarray(corners, np.intp).reshape(-1)
        self._buffers: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def write(self, phase: int, stamp: Time, points: np.ndarray | None = None) -> np.ndarray:
        """
        Return the marker's bytes, valid until the next call.

        phase is 0 or 4, see PHASES; points `(P, 3)`, all corners below P.
        """
        if phase not in self._buffers:
            self._buffers[phase] = self._make(phase)
        content, coordinates = self._buffers[phase]
        struct.pack_into('=iI', content, 0, stamp.sec, stamp.nanosec)
        if len(self._corners):
            # Gathering straight into the message; 'clip' because 'raise' goes through a copy.
            np.take(points.astype(np.float64), self._corners, axis=0, out=coordinates, mode='clip')
        return content

    def _make(self, phase: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the marker's bytes and a view of its points in them."""
        if not len(self._corners):
            self._marker.points = []
            plain = _serialized(self._marker, phase)
            return self._aligned(phase, len(plain), plain), np.empty((0, 3))
        x, y, z = SENTINEL
        self._marker.points = [Point(x=x, y=y, z=z)]
        one = _serialized(self._marker, phase)
        start = one.tobytes().index(np.array(SENTINEL).tobytes())
        size = 24 * len(self._corners)
        content = self._aligned(phase, len(one) - 24 + size, one[:start])
        content[start + size:] = one[start + 24:]
        # The fields before points end such that no padding lies between their number and them.
        content[start - 4:start] = np.array([len(self._corners)], np.uint32).view(np.uint8)
        return content, content[start:start + size].view(np.float64).reshape(-1, 3)

    @staticmethod
    def _aligned(phase: int, size: int, beginning: np.ndarray) -> np.ndarray:
        """Allocate bytes whose doubles are aligned in memory as they are in the message."""
        content = np.zeros((size + phase + 7) // 8, np.float64).view(np.uint8)[phase:phase + size]
        content[:len(beginning)] = beginning
        return content


def serialize_markers(
        stamp: Time, markers: Sequence[tuple[MarkerTemplate, np.ndarray | None]]) -> bytes:
    """Serialise a MarkerArray of templates and their point sets, as rclpy would."""
    parts: list[bytes | np.ndarray] = [_encapsulation(), np.uint32(len(markers)).tobytes()]
    offset = 4
    for template, points in markers:
        padding = -offset % 4
        offset += padding
        content = template.write(offset % 8, stamp, points)
        parts += [b'\0' * padding, content]
        offset += len(content)
    return b''.join(parts)


def serialize_triangles(marker: Marker, corners: np.ndarray, colours: np.ndarray) -> bytes:
    """
    Serialise a marker of many coloured triangles, as rclpy would.

    corners (3F, 3) metres, colours (3F, 3) uint8 RGB; `marker.points` and `marker.colors` are
    ignored, and colours are as opaque as `marker.color`.
    """
    marker, count = copy.deepcopy(marker), np.uint32(len(corners)).tobytes()
    marker.points = [Point(**dict(zip('xyz', SENTINEL)))]
    marker.colors = [ColorRGBA(r=-3.0, g=-5.0, b=-7.0, a=marker.color.a)]
    one = serialize_message(marker)
    point = one.index(np.array(SENTINEL).tobytes())
    # Their number lies between, and no padding: all points and colours are whole multiples of 8.
    colour = point + 24 + 4
    rgba = np.full((len(colours), 4), marker.color.a, np.float32)
    rgba[:, :3] = colours / np.float32(255)
    return b''.join([
        one[:point - 4], count, np.asarray(corners, np.float64).tobytes(), count, rgba.tobytes(),
        one[colour + 16:]])
