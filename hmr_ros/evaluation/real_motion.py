# SPDX-License-Identifier: Apache-2.0
"""How joints of real people accelerate, frame by frame and smoothed; there is no truth to meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hmr_ros.demo.clip import CLIP
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.subject import ASSUMED_FOV_DEG, Subject
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.detection import HogPersonDetector
from hmr_ros.perception.person import Person
from hmr_ros.perception.recoveries import recovery_for
from hmr_ros.perception.smoothing import BodySmoother
from hmr_ros.perception.tracking import PersonTracker
from hmr_ros.perception.video import VideoReader

FRAMES = 200
_MOST_PEOPLE = 32


@dataclass(frozen=True)
class Moment:
    """One frame of a video: its time in seconds, its camera and the people in it."""

    stamp_s: float
    camera: Camera
    people: list[Person]


def watch(subject: Subject, folder: str | Path, frames: int = FRAMES) -> list[Moment]:
    """
    Detect, track and recover the people of the pedestrian clip in `folder`.

    Raises EvaluationError when it is not there.
    """
    path = Path(folder).expanduser() / CLIP.name
    if not path.is_file():
        raise EvaluationError(
            f'{path} is missing; give the folder examples/data of the Debian package opencv-doc')
    detector, tracker = HogPersonDetector(), PersonTracker()
    recovery = recovery_for(subject.engine, subject.body, _MOST_PEOPLE)
    moments = []
    with closing(VideoReader(str(path))) as video:
        for image, stamp_s in islice(video, frames):
            height, width = image.shape[:2]
            camera = Camera.from_fov(width, height, ASSUMED_FOV_DEG)
            boxes = tracker.update(detector.detect(image), stamp_s)
            moments.append(Moment(stamp_s, camera, recovery.recover(image, 'bgr', camera, boxes)))
    return moments


def smoothed(
        moments: Sequence[Moment], maker: Callable[[], BodySmoother] | None) -> list[Moment]:
    """Send the people of a video through a fresh smoother; None leaves them as they are."""
    if maker is None:
        return list(moments)
    smoother = maker()
    return [Moment(m.stamp_s, m.camera, smoother.smooth(m.people, m.camera, m.stamp_s))
            for m in moments]


def accelerations(moments: Sequence[Moment]) -> dict[str, np.ndarray]:
    """
    Mean acceleration of the joints of each track, `(K, 2)`: frame number, mm per frame^2.

    Joints are relative to the pelvis; only three frames in a row count.
    """
    seen: dict[str, dict[int, np.ndarray]] = {}
    for number, moment in enumerate(moments):
        for person in moment.people:
            joints = person.joints3d - person.joints3d[:1]
            seen.setdefault(person.track_id, {})[number] = joints
    return {track: np.float64([
        (n, 1000 * np.linalg.norm(
            rows[n - 1] - 2 * rows[n] + rows[n + 1], axis=-1).mean())
        for n in rows if n - 1 in rows and n + 1 in rows]).reshape(-1, 2)
        for track, rows in seen.items()}


def compare(
        moments: Sequence[Moment],
        methods: Mapping[str, Callable[[], BodySmoother] | None]) -> dict[str, Any]:
    """Mean accelerations by method, and their course for the track that is seen longest."""
    found = {name: accelerations(smoothed(moments, maker)) for name, maker in methods.items()}
    first = next(iter(found.values()))
    if not any(len(rows) for rows in first.values()):
        raise EvaluationError('nobody was seen for three frames in a row; take another video')
    longest = max(first, key=lambda track: len(first[track]))
    return {
        'frames': len(moments), 'people_frames': sum(len(rows) for rows in first.values()),
        'acceleration_mm': {name: float(np.concatenate(list(tracks.values()))[:, 1].mean())
                            for name, tracks in found.items()},
        'longest_track': {name: tracks[longest].tolist() for name, tracks in found.items()}}
