# SPDX-License-Identifier: Apache-2.0
"""Markers written with numpy are, byte for byte, what rclpy writes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
from builtin_interfaces.msg import Time  # noqa: E402
from geometry_msgs.msg import Point  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from std_msgs.msg import ColorRGBA, Header  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from hmr_ros.nodes.marker_cdr import (  # noqa: E402
    MarkerTemplate, serialize_markers, serialize_triangles)
from hmr_ros.nodes.markers import color_of, MarkerScene, MarkerStyle  # noqa: E402
from hmr_ros.perception.person import Person  # noqa: E402

pytestmark = pytest.mark.ros

WORDS = st.text('abcdefgh_/', max_size=11)


def marker(frame_id, space, number, text):
    result = Marker(header=Header(frame_id=frame_id), ns=space, id=number, text=text)
    result.type, result.color = Marker.TRIANGLE_LIST, color_of(text, 0.5)
    result.lifetime.nanosec = 500_000_000
    result.pose.orientation.w = 1.0
    return result


SIZES = {'boolean': 1, 'octet': 1, 'uint8': 1, 'int32': 4, 'uint32': 4, 'float': 4, 'double': 8}


def fields_at(message, offset):
    """Yield begin and end of every value in the CDR form of `message`, padding left out."""
    for name, kind in message.get_fields_and_field_types().items():
        value = getattr(message, name)
        if kind.startswith('sequence'):
            offset += -offset % 4
            yield offset, offset + 4
            offset, kind = offset + 4, kind[len('sequence<'):-1]
        else:
            value = [value]
        for item in value:
            if '/' in kind:
                spans = list(fields_at(item, offset))
            elif kind == 'string':
                begin = offset + -offset % 4
                spans = [(begin, begin + 4 + len(item.encode()) + 1)]
            else:
                begin = offset + -offset % SIZES[kind]
                spans = [(begin, begin + SIZES[kind])]
            yield from spans
            offset = spans[-1][1]


def without_padding(content, message):
    """Return the bytes that mean something; rclpy leaves padding as the memory was."""
    body = content[4:]
    return b''.join(body[begin:end] for begin, end in fields_at(message, 0))


def as_points(array):
    return [Point(x=x, y=y, z=z) for x, y, z in array.astype(float).tolist()]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS, st.integers(0, 99), WORDS, st.integers(0, 7)), max_size=5),
       st.integers(-5, 2**31 - 1), st.integers(0, 10**9 - 1))
def test_any_array_of_markers_equals_rclpys_own(rows, sec, nanosec):
    stamp = Time(sec=sec, nanosec=nanosec)
    rng = np.random.default_rng(len(rows))
    slow, fast = [], []
    for frame_id, space, number, text, count in rows:
        points = rng.normal(size=(count, 3)).astype(np.float32)
        corners = rng.permutation(count)
        template = MarkerTemplate(marker(frame_id, space, number, text), corners)
        # Once before: leftovers of an earlier frame must not show.
        template.write(0, Time(), np.ones((count, 3)))
        template.write(4, Time(sec=1), np.ones((count, 3)))
        fast.append((template, points))
        slow.append(marker(frame_id, space, number, text))
        slow[-1].header.stamp, slow[-1].points = stamp, as_points(points[corners])
    message = MarkerArray(markers=slow)
    ours, theirs = serialize_markers(stamp, fast), serialize_message(message)
    assert len(ours) == len(theirs)
    assert ours[:4] == theirs[:4]
    assert without_padding(ours, message) == without_padding(theirs, message)
    assert read(ours) == read(theirs)


def read(content):
    return deserialize_message(content, MarkerArray).markers


def person(track_id, offset):
    zeros = np.zeros
    return Person(track_id, 1.0, zeros(4), zeros((2, 3)), zeros(3), zeros((23, 3)), zeros(10),
                  zeros(3), np.full((24, 3), offset, np.float32), zeros((24, 2)), zeros(24))


@settings(deadline=None)
@given(WORDS, WORDS, WORDS, st.integers(0, 4))
def test_coloured_triangles_are_what_rclpy_reads(frame_id, space, text, count):
    # Colours would be found first in these numbers, were they looked for from the beginning.
    rng = np.random.default_rng(count)
    corners, colours = rng.normal(size=(3 * count, 3)), rng.integers(0, 256, (3 * count, 3))
    expected = marker(frame_id, space, 7, text)
    content = serialize_triangles(expected, corners, colours)
    expected.points = as_points(corners)
    expected.colors = [
        ColorRGBA(**dict(zip('rgb', (float(c) for c in np.float32(row) / np.float32(255)))),
                  a=expected.color.a) for row in colours]
    theirs = serialize_message(expected)
    assert deserialize_message(content, Marker) == deserialize_message(theirs, Marker)
    assert len(content) == len(theirs)


def test_a_scene_shows_people_and_deletes_those_who_left():
    faces = np.array([[0, 1, 2], [2, 1, 3]], np.int32)
    vertices = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    scene, header = MarkerScene(faces), Header(frame_id='cam', stamp=Time(sec=3))
    both = read(scene.compose(header, [person('p1', 1), person('p2', 2)], vertices, MarkerStyle()))
    assert [(m.ns, m.type) for m in both[:3]] == [
        ('mesh', Marker.TRIANGLE_LIST), ('skeleton', Marker.LINE_LIST),
        ('label', Marker.TEXT_VIEW_FACING)]
    assert len(both) == 6 and both[2].text == 'p1' and both[0].id != both[3].id
    assert both[3].points == as_points(vertices[1][faces.reshape(-1)])
    assert len(both[1].points) == 46
    assert all(m.header == header and m.lifetime.nanosec == 500_000_000 for m in both)

    one = read(scene.compose(header, [person('p2', 2)], vertices[1:], MarkerStyle(mesh=False)))
    gone = {(m.ns, m.id) for m in one if m.action == Marker.DELETE}
    first, second = both[0].id, both[3].id
    assert gone == {('mesh', first), ('skeleton', first), ('label', first), ('mesh', second)}
    assert {m.id for m in one if m.action == Marker.ADD} == {second}, 'a track keeps its number'
    rest = read(scene.clear(header))
    assert {(m.ns, m.id, m.action) for m in rest} == {
        ('skeleton', second, Marker.DELETE), ('label', second, Marker.DELETE)}
    assert not read(scene.clear(header))


def test_a_mesh_is_written_fifty_times_faster_than_rclpy_does():
    benchmark = pytest.importorskip('hmr_ros.nodes.benchmark_markers')
    result = benchmark.benchmark_markers(repeats=7)
    assert result['faces'] == 13776
    assert result['ratio'] >= 50, result
