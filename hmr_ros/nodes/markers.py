# SPDX-License-Identifier: Apache-2.0
"""What RViz and Foxglove show of a frame: meshes, skeletons, labels, and what must go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from builtin_interfaces.msg import Duration
import numpy as np
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker

from hmr_ros.nodes.marker_cdr import MarkerTemplate, serialize_markers
from hmr_ros.perception.overlay import track_color
from hmr_ros.perception.person import Person
from hmr_ros.perception.skeleton import HAND_BONES, PARENTS

BONES = np.array([(PARENTS[joint], joint) for joint in range(1, 24)])
# Behind the 24 joints the twenty of the left and of the right hand.
WHOLE_BODY_BONES = np.concatenate([BONES[:-2], 24 + HAND_BONES, 44 + HAND_BONES, *(
    [(wrist, hand + 4 * finger) for finger in range(5)] for wrist, hand in ((20, 24), (21, 44)))])
LABEL_HEIGHT_M = 0.2
BONE_WIDTH_M = 0.02


@dataclass(frozen=True)
class MarkerStyle:
    """What to show; `opacity` 0 to 1, `lifetime_s` in seconds."""

    mesh: bool = True
    skeleton: bool = True
    labels: bool = True
    opacity: float = 0.9
    lifetime_s: float = 0.5


class MarkerScene:
    """Turns the people of each frame into one MarkerArray, and deletes those who left."""

    def __init__(self, faces: np.ndarray) -> None:
        """`faces` `(F, 3)` vertex indices."""
        self._faces = faces
        self._ids: dict[str, int] = {}
        self._next_id = 0
        self._shown: set[tuple[str, int]] = set()
        self._templates: dict[tuple, MarkerTemplate] = {}

    @property
    def shows_somebody(self) -> bool:
        """Whether there is anything to delete."""
        return bool(self._shown)

    def compose(
            self, header: Header, people: Sequence[Person], vertices: np.ndarray,
            style: MarkerStyle) -> bytes:
        """
        Serialise the MarkerArray of one frame.

        vertices `(N, V, 3)` of `people`, in the frame of `header`. Untracked people get ids by
        their place in the list.
        """
        items, shown = [], set()
        for index, person in enumerate(people):
            number = self._number(person.track_id or f'#{index}')
            for space, points in self._points(person, vertices[index], style):
                label = person.track_id if space == 'label' else ''
                items.append((self._template(header, space, number, label, style, person), points))
                shown.add((space, number))
        items = self._deletions(header, self._shown - shown) + items
        self._shown = shown
        self._forget({number for _, number in shown})
        return serialize_markers(header.stamp, items)

    def clear(self, header: Header) -> bytes:
        """Serialise a MarkerArray that deletes all that is shown."""
        return self.compose(header, [], np.zeros((0, 0, 3)), MarkerStyle())

    def _points(
            self, person: Person, vertices: np.ndarray,
            style: MarkerStyle) -> list[tuple[str, np.ndarray | None]]:
        found: list[tuple[str, np.ndarray | None]] = []
        if style.mesh:
            found.append(('mesh', vertices))
        if style.skeleton:
            found.append(('skeleton', _skeleton(person)))
        if style.labels and person.track_id:
            found.append(('label', None))
        return found

    def _number(self, track_id: str) -> int:
        if track_id not in self._ids:
            self._ids[track_id] = self._next_id
            self._next_id += 1
        return self._ids[track_id]

    def _forget(self, kept: set[int]) -> None:
        self._ids = {track: number for track, number in self._ids.items() if number in kept}
        self._templates = {
            key: template for key, template in self._templates.items() if key[2] in kept}

    def _template(
            self, header: Header, space: str, number: int, label: str, style: MarkerStyle,
            person: Person) -> MarkerTemplate:
        if space == 'label':
            # Its place changes each frame, and it is small: not worth keeping.
            return MarkerTemplate(_label(header, number, label, person, style))
        key = (header.frame_id, space, number, style)
        if key not in self._templates:
            bones = BONES if person.hands_and_face is None else WHOLE_BODY_BONES
            corners = self._faces if space == 'mesh' else bones
            shape = _shape(header, space, number, style, person.track_id)
            self._templates[key] = MarkerTemplate(shape, corners)
        return self._templates[key]

    @staticmethod
    def _deletions(
            header: Header, gone: set[tuple[str, int]]) -> list[tuple[MarkerTemplate, None]]:
        return [
            (MarkerTemplate(Marker(header=header, ns=space, id=number, action=Marker.DELETE)), None)
            for space, number in sorted(gone)]


def _skeleton(person: Person) -> np.ndarray:
    """Joints `(24, 3)`, with those of the hands `(64, 3)` where they are known."""
    if person.hands_and_face is None:
        return person.joints3d
    return np.concatenate([person.joints3d, person.hands_and_face.hand_joints3d.reshape(40, 3)])


def color_of(track_id: str, opacity: float = 1.0) -> ColorRGBA:
    """Return the colour of a track, the same as in the overlay."""
    blue, green, red = (channel / 255 for channel in track_color(track_id))
    return ColorRGBA(r=red, g=green, b=blue, a=float(opacity))


def _marker(header: Header, space: str, number: int, style: MarkerStyle) -> Marker:
    marker = Marker(header=header, ns=space, id=number, action=Marker.ADD)
    seconds = int(style.lifetime_s)
    marker.lifetime = Duration(sec=seconds, nanosec=int((style.lifetime_s - seconds) * 1e9))
    marker.pose.orientation.w = 1.0
    return marker


def _shape(
        header: Header, space: str, number: int, style: MarkerStyle, track_id: str) -> Marker:
    """Make a mesh or skeleton marker without points."""
    marker = _marker(header, space, number, style)
    if space == 'mesh':
        marker.type, marker.color = Marker.TRIANGLE_LIST, color_of(track_id, style.opacity)
        marker.scale.x = marker.scale.y = marker.scale.z = 1.0
    else:
        marker.type, marker.color = Marker.LINE_LIST, color_of(track_id)
        marker.scale.x = BONE_WIDTH_M
    return marker


def _label(
        header: Header, number: int, text: str, person: Person, style: MarkerStyle) -> Marker:
    marker = _marker(header, 'label', number, style)
    marker.type, marker.color, marker.text = Marker.TEXT_VIEW_FACING, color_of(text), text
    marker.scale.z = LABEL_HEIGHT_M
    x, y, z = (float(v) for v in person.joints3d[15])
    # y points down in the optical frame: above the head joint is less.
    marker.pose.position.x, marker.pose.position.y = x, y - 2 * LABEL_HEIGHT_M
    marker.pose.position.z = z
    return marker
