# SPDX-License-Identifier: Apache-2.0
"""Tracking of person boxes: stable ids, smooth boxes, and boxes through short misses."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Sequence

import numpy as np

from hmr_ros.perception.detection import overlaps
from hmr_ros.perception.person import PersonBox

# Standard deviations in box heights: of a detected position, of a detected width or height, and
# of a walking person's change of speed per second.
_POSITION_NOISE = np.array([0.04, 0.04, 0.06, 0.06])
_ACCELERATION = np.array([1.2, 0.8, 0.25, 0.25])
_FIRST_SPEED = np.array([1.5, 1.0, 0.3, 0.3])
# Without a detection the motion dies away with this time constant, so that nobody flies off.
_SLOW_DOWN_S = 0.5
_SCORE_SHARE = 0.2


@dataclass(frozen=True)
class TrackerSettings:
    """
    When a track begins, what continues it, and when it ends.

    max_age_s    a track ends when nothing was detected for longer
    coast_s      boxes are given out without a detection for up to this long
    min_hits     detections before a track gets its id
    birth_score  mean score of a track's detections before it gets its id
    min_overlap  least intersection over union of a detection and a track that continues
    max_tracks   most tracks, named or not; the weakest new ones are left out
    """

    max_age_s: float = 1.5
    coast_s: float = 0.6
    min_hits: int = 3
    birth_score: float = 0.9
    min_overlap: float = 0.25
    max_tracks: int = 64


@dataclass
class _Track:
    """
    Kalman filter with constant velocity of centre x, y, width and height.

    mean (4, 2) position and speed; covariance (4, 2, 2), in units of the height at birth.
    """

    mean: np.ndarray
    covariance: np.ndarray
    unit: float
    stamp_s: float
    score: float
    hits: int = 1
    score_sum: float = 0.0
    track_id: str = ''
    hit_stamp_s: float = field(default=0.0)

    @property
    def box(self) -> np.ndarray:
        """x0, y0, x1, y1 in pixels, float32."""
        x, y, width, height = self.mean[:, 0]
        half = 0.5 * np.maximum((width, height), 1.0)
        return np.float32([x - half[0], y - half[1], x + half[0], y + half[1]])


def _measurement(box: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    return np.array([0.5 * (x0 + x1), 0.5 * (y0 + y1), x1 - x0, y1 - y0])


def _valid(box: PersonBox) -> bool:
    values = np.asarray(box.box, np.float64)
    return bool(
        values.shape == (4,) and np.all(np.isfinite(values)) and np.all(np.abs(values) < 1e6)
        and values[2] > values[0] and values[3] > values[1])


def _score(box: PersonBox) -> float:
    # A detector without scores is taken at its word.
    return 1.0 if np.isnan(box.score) else float(box.score)


def _begin(box: PersonBox, stamp_s: float) -> _Track:
    measured = _measurement(box.box)
    covariance = np.zeros((4, 2, 2))
    covariance[:, 0, 0], covariance[:, 1, 1] = _POSITION_NOISE ** 2, _FIRST_SPEED ** 2
    score = _score(box)
    return _Track(
        np.stack([measured, np.zeros(4)], axis=1), covariance, measured[3], stamp_s, score,
        score_sum=score, hit_stamp_s=stamp_s)


def _predict(track: _Track, stamp_s: float) -> None:
    step = stamp_s - track.stamp_s
    if track.hit_stamp_s < track.stamp_s:
        track.mean = track.mean * (1.0, np.exp(-step / _SLOW_DOWN_S))
    move = np.array([[1.0, step], [0.0, 1.0]])
    spread = np.array([[step ** 4 / 4, step ** 3 / 2], [step ** 3 / 2, step ** 2]])
    track.mean = track.mean @ move.T
    track.covariance = (
        move @ track.covariance @ move.T + spread * (_ACCELERATION ** 2)[:, None, None])
    track.stamp_s = stamp_s


def _correct(track: _Track, box: PersonBox, stamp_s: float) -> None:
    innovation = _measurement(box.box) - track.mean[:, 0]
    variance = track.covariance[:, 0, 0] + _POSITION_NOISE ** 2
    gain = track.covariance[:, :, 0] / variance[:, None]
    track.mean = track.mean + gain * innovation[:, None]
    track.covariance = track.covariance - gain[:, :, None] * track.covariance[:, :1, :]
    score = _score(box)
    track.score += _SCORE_SHARE * (score - track.score)
    track.score_sum += score
    track.hits += 1
    track.hit_stamp_s = stamp_s


def _pairs(gain: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Return the rows and columns of the assignment with the largest total gain above `least`."""
    if not gain.size:
        return []
    wanted = np.where(gain >= least, gain, 0)
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        chosen = _greedy(wanted)
    else:
        chosen = zip(*linear_sum_assignment(wanted, maximize=True))
    return [(int(row), int(column)) for row, column in chosen if wanted[row, column] > 0]


def _greedy(gain: np.ndarray) -> list[tuple[int, int]]:
    gain, chosen = gain.copy(), []
    for _ in range(min(gain.shape)):
        row, column = np.unravel_index(np.argmax(gain), gain.shape)
        chosen.append((row, column))
        gain[row], gain[:, column] = -1, -1
    return chosen


@dataclass(frozen=True)
class Forecast:
    """
    Where the people of the image of `stamp_s` will be in later ones.

    It holds for `max_age_s` seconds, however long the next search takes, and never changes, so
    that another thread may ask while the tracker goes on.
    """

    stamp_s: float
    max_age_s: float
    tracks: tuple[_Track, ...]

    def at(self, stamp_s: float) -> list[PersonBox] | None:
        """
        Return the boxes, with ids, of an image taken at `stamp_s` in seconds.

        Nobody when that is too late; None for an image older than the forecast: stamps went back.
        """
        if stamp_s < self.stamp_s:
            return None
        if stamp_s - self.stamp_s > self.max_age_s:
            return []
        tracks = [copy.copy(track) for track in self.tracks]
        for track in tracks:
            _predict(track, stamp_s)
        return [_tracked(track) for track in tracks]


def _tracked(track: _Track) -> PersonBox:
    return PersonBox(track.box, float(np.clip(track.score, 0, 1)), track.track_id)


class PersonTracker:
    """
    Gives person boxes an identity over time.

    Ids are 'p1', 'p2', ... in the order of appearance and are never used twice. `resets` counts how
    often stamps went backwards and all tracks were dropped.
    """

    def __init__(self, settings: TrackerSettings = TrackerSettings()) -> None:
        self._settings = settings
        self._tracks: list[_Track] = []
        self._named = 0
        self._stamp_s = -np.inf
        self._interval_s = 0.0
        self.resets = 0

    def update(self, boxes: Sequence[PersonBox], stamp_s: float) -> list[PersonBox]:
        """
        Take the detections of one image and return the people that are tracked in it.

        boxes    detections with scores (NaN: unknown), in any order; their ids are ignored
        stamp_s  time of the image in seconds; when it goes back, all tracks are dropped

        Returns smoothed boxes with ids, oldest first; boxes that are not finite or empty are left
        out.
        """
        if stamp_s < self._stamp_s:
            self._tracks.clear()
            self.resets += 1
        elif np.isfinite(self._stamp_s):
            self._interval_s += 0.3 * (stamp_s - self._stamp_s - self._interval_s)
        self._stamp_s = stamp_s
        detections = [box for box in boxes if _valid(box)]
        for track in self._tracks:
            _predict(track, stamp_s)
        self._associate(detections, stamp_s)
        self._tracks = [track for track in self._tracks if self._lives(track)]
        self._drop_doubles()
        self._name()
        return [_tracked(track) for track in self._visible]

    def forecast(self) -> Forecast:
        """Return where the people that the last `update` gave will be in the images to come."""
        return Forecast(self._stamp_s, self._settings.max_age_s, tuple(
            copy.copy(track) for track in self._visible))

    @property
    def _visible(self) -> list[_Track]:
        return [
            track for track in self._tracks
            if track.track_id and self._stamp_s - track.hit_stamp_s <= self._settings.coast_s]

    def _associate(self, detections: list[PersonBox], stamp_s: float) -> None:
        seen = np.reshape([box.box for box in detections], (-1, 4)).astype(np.float64)
        known = np.reshape([track.box for track in self._tracks], (-1, 4))
        pairs = _pairs(overlaps(known, seen), self._settings.min_overlap)
        for row, column in pairs:
            _correct(self._tracks[row], detections[column], stamp_s)
        taken = {column for _, column in pairs}
        fresh = [box for column, box in enumerate(detections) if column not in taken]
        fresh.sort(key=_score, reverse=True)
        room = self._settings.max_tracks - len(self._tracks)
        self._tracks += [_begin(box, stamp_s) for box in fresh[:max(room, 0)]]

    def _lives(self, track: _Track) -> bool:
        # Who has no name yet must be seen more often than who has one.
        # But on a slow machine one missed image must not be the end.
        unnamed_s = max(0.5 * self._settings.coast_s, 2.5 * self._interval_s)
        limit = self._settings.max_age_s if track.track_id else unnamed_s
        return track.stamp_s - track.hit_stamp_s <= limit

    def _drop_doubles(self) -> None:
        """Drop the younger of two tracks that have come to lie on one person."""
        boxes = np.reshape([track.box for track in self._tracks], (-1, 4))
        same = np.triu(overlaps(boxes, boxes) > 0.7, 1)
        stale = [track.hit_stamp_s < track.stamp_s for track in self._tracks]
        gone = set()
        for older, younger in zip(*np.nonzero(same)):
            if stale[older] or stale[younger]:
                gone.add(younger)
        self._tracks = [track for i, track in enumerate(self._tracks) if i not in gone]

    def _name(self) -> None:
        for track in self._tracks:
            sure = track.score_sum / track.hits >= self._settings.birth_score
            if not track.track_id and track.hits >= self._settings.min_hits and sure:
                self._named += 1
                track.track_id = f'p{self._named}'
