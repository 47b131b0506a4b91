# SPDX-License-Identifier: Apache-2.0
"""Calls of the service `digitize`: what they ask for, and what they are answered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
import os
from pathlib import Path
import re
import threading

import numpy as np
from rclpy.task import Future
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from hmr_ros.nodes.digitizer_sight import Seen, Sight
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.marker_cdr import serialize_triangles
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.digitizer.mesh import Mesh
from hmr_ros.perception.digitizer.subject import DigitizedPerson, is_watertight, Meshing
from hmr_ros.srv import Digitize

_NAMESPACE = 'digitized_mesh'
#: what progress says in each stage of the worker.
TEXTS = {
    'image': 'the image is read', 'align': 'body parts are placed', 'low': 'the whole is looked at',
    'parts': 'body parts are looked at', 'refine': 'depth is refined',
    'surface': 'points are made of depth', 'mesh': 'points are joined to a mesh',
    'write': 'the file is written'}


@dataclass
class Job:
    """
    One call of the service.

    path      of the file
    future    of the answer, which is complete before that is
    ended_by  what the caller is told when it is cancelled
    """

    sight: Sight
    seen: Seen
    camera: Camera
    path: Path
    meshing: Meshing
    future: Future = field(default_factory=Future)
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended_by: str = 'cancelled by cancel_digitize'
    answer: Digitize.Response = field(init=False)
    _told: tuple[str, float] = ('', 0.0)

    def __post_init__(self) -> None:
        self.answer = Digitize.Response(header=self.sight.header, track_id=self.seen.track_id)

    def is_news(self, stage: str, done: float) -> bool:
        """Tell whether this is another stage, or more is done, than at the last call."""
        before, self._told = self._told, (stage, done)
        return before != self._told


def describe(job: Job, person: DigitizedPerson, milliseconds: dict[str, float]) -> None:
    """Fill in the answer of a job that is done; `milliseconds` are those of each stage."""
    answer, mesh = job.answer, person.mesh
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    answer.success, answer.path = True, str(job.path)
    answer.vertices, answer.faces = len(mesh.vertices), len(mesh.faces)
    answer.watertight = is_watertight(mesh)
    answer.size_m = high - low
    answer.distance_m = float(np.linalg.norm((low + high) / 2))
    answer.scale_source = (
        answer.SCALE_HEIGHT if job.seen.distance_m is None else answer.SCALE_BODY)
    answer.dropped_parts = list(person.digitization.alignment.dropped)
    answer.stages, answer.stage_ms = list(milliseconds), list(milliseconds.values())
    answer.message = f'{answer.faces} triangles in {sum(milliseconds.values()) * 1e-3:.1f} s'


def marker_of(header: Header, mesh: Mesh) -> bytes:
    """Serialise a marker of a mesh in the frame of `header`, in its colours."""
    marker = Marker(header=header, ns=_NAMESPACE, type=Marker.TRIANGLE_LIST, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = marker.color.a = 1.0
    corners = mesh.faces.ravel()
    return serialize_triangles(marker, mesh.vertices[corners], mesh.colours[corners])


def deletion() -> Marker:
    """Make the marker that takes away what `marker_of` shows."""
    return Marker(ns=_NAMESPACE, action=Marker.DELETE)


def file_name(header: Header, track_id: str, suffix: str) -> str:
    """Name a file by who is in it, and when the image was taken."""
    name = re.sub(r'[^A-Za-z0-9_-]', '_', track_id) or 'person'
    return f'{name}_{header.stamp.sec}_{header.stamp.nanosec:09d}.{suffix}'


def free_path(path: Path, taken: Collection[Path]) -> Path:
    """Number a path that another call will write to: `p1.ply`, `p1_2.ply`, `p1_3.ply`."""
    free, number = path, 1
    while free in taken:
        number += 1
        free = path.with_name(f'{path.stem}_{number}{path.suffix}')
    return free


def writable(folder: str) -> Path:
    """Make a folder where it is not there. Raises NodeError when nothing can be written there."""
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NodeError(
            f'folder {path} cannot be made ({error.strerror}); choose another one') from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise NodeError(f'nothing can be written to folder {path}; choose another one')
    return path
