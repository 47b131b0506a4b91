# SPDX-License-Identifier: Apache-2.0
"""Bodies steady over time: what every method does, and the one that needs no weights."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from hmr_ros.body.model import SkinnedModel
from hmr_ros.perception import one_euro, rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.one_euro import (
    OneEuroSettings, OneEuroState, ROTATIONS, Space, VECTORS)
from hmr_ros.perception.person import Person
from hmr_ros.perception.track_states import Remembered, TrackStates

Memory = TypeVar('Memory')
#: values, how they are filtered, and where they live.
Measured = tuple[tuple[np.ndarray, OneEuroSettings, Space], ...]


@dataclass(frozen=True)
class SmoothingSettings:
    """
    When a track starts afresh, and how strongly the One-Euro filters hold it.

    max_gap_s   a track that was away for longer starts afresh
    max_tracks  most tracks that are remembered; the least recently seen is forgotten
    rotation    filter of the 24 joint rotations, speeds in rad/s. On synthetic films at 15 Hz it
                halves acceleration errors for 2 mm of MPJPE; at rest 0.4 Hz would cost 6 mm
    position    filter of the pelvis in the camera, speeds in m/s
    shape       filter of the shape coefficients, speeds per second
    expression  filter of the expression coefficients, speeds per second: faces move as fast as limbs
    """

    max_gap_s: float = 0.5
    max_tracks: int = 64
    rotation: OneEuroSettings = OneEuroSettings(1.5, 0.7, 1.0)
    position: OneEuroSettings = OneEuroSettings(0.5, 5.0, 1.0)
    shape: OneEuroSettings = OneEuroSettings(0.1, 0.0, 1.0)
    expression: OneEuroSettings = OneEuroSettings(1.5, 0.7, 1.0)


@dataclass(frozen=True)
class SmoothingRecord:
    """
    How many people of the last frame were what.

    smoothed  given out smoothed
    passed    passed through: no track id, an id twice, no usable feature, or a state just reset
    left_out  not given out: their numbers are not finite
    resets    tracks whose state was no longer finite and was thrown away
    """

    smoothed: int = 0
    passed: int = 0
    left_out: int = 0
    resets: int = 0


@dataclass(frozen=True)
class Smoothed(Generic[Memory]):
    """
    The smoothed body of one track and what its next frame needs.

    pose    (J, 3)   float32 axis-angle
    betas   (K,)     float32 coefficients of the body
    memory           what the method itself remembers
    pelvis           filter of joint 0 in metres, optical frame
    """

    pose: np.ndarray
    betas: np.ndarray
    memory: Memory
    pelvis: OneEuroState

    @property
    def is_finite(self) -> bool:
        """Whether the body is; the memory is the method's own business."""
        return bool(np.isfinite(self.pose).all() and np.isfinite(self.betas).all()
                    and self.pelvis.is_finite)


@dataclass(frozen=True)
class Step(Generic[Memory]):
    """One person who is due: memory of the frame before, `step_s` ago; None when it is new."""

    person: Person
    memory: Memory | None
    step_s: float


class BodySmoother(abc.ABC, Generic[Memory]):
    """
    Smooths the people of one frame after the other; causal, one frame in, one frame out.

    Translations are smoothed at the pelvis by a One-Euro filter. Joints are those of the smoothed
    body. Tracks never influence each other. `settings` may be exchanged between frames; `record`
    describes the last one.
    """

    def __init__(
            self, body: SkinnedModel, settings: SmoothingSettings = SmoothingSettings()) -> None:
        self.settings = settings
        self.record = SmoothingRecord()
        self._body = body
        self._states: TrackStates[Smoothed[Memory]] = TrackStates(
            settings.max_gap_s, settings.max_tracks)

    @property
    def body(self) -> SkinnedModel:
        """Body model of the people."""
        return self._body

    @property
    def tracks(self) -> int:
        """How many tracks are remembered."""
        return len(self._states)

    @property
    def rewinds(self) -> int:
        """How often stamps went back and all tracks were forgotten."""
        return self._states.rewinds

    def reset(self) -> None:
        """Forget all tracks."""
        self._states.clear()

    def smooth(
            self, people: Sequence[Person], camera: Camera | None, stamp_s: float) -> list[Person]:
        """
        Smooth the people of the frame of `stamp_s` seconds; nobody needs no `camera`.

        A track that comes twice with one stamp is not stepped again. People keep their order; those
        whose numbers are not finite are left out, and those who cannot be smoothed are given out
        as they came. Passes on the engine's own error.
        """
        self._states.max_gap_s = self.settings.max_gap_s
        self._states.max_tracks = self.settings.max_tracks
        self._states.start_frame(stamp_s)
        finite = [person for person in people if _is_finite(person)]
        chosen = self._choose(finite)
        bodies = self._bodies([finite[i] for i in chosen], stamp_s)
        good = [(i, body) for i, body in zip(chosen, bodies) if body is not None]
        result = list(finite)
        for (i, _), person in zip(good, self._rebuilt(
                [finite[i] for i, _ in good], [body for _, body in good], camera)):
            result[i] = person
        self.record = SmoothingRecord(
            len(good), len(finite) - len(good), len(people) - len(finite),
            len(chosen) - len(good))
        return result

    @abc.abstractmethod
    def _fits(self, person: Person) -> bool:
        """Whether the method can work on a person."""

    @abc.abstractmethod
    def _advance(
            self, steps: Sequence[Step[Memory]]) -> list[tuple[np.ndarray, np.ndarray, Memory]]:
        """
        Give pose `(J, 3)`, betas `(K,)` and new memory for each of one or more people.

        Pose and betas are float32; NaN in them makes the track start afresh.
        """

    def _choose(self, people: Sequence[Person]) -> list[int]:
        """Return who can be smoothed; an id that comes twice is taken where it comes first."""
        first: dict[str, int] = {}
        for i, person in enumerate(people):
            if person.track_id and self._fits(person):
                first.setdefault(person.track_id, i)
        return list(first.values())

    def _bodies(
            self, people: Sequence[Person], stamp_s: float) -> list[Smoothed[Memory] | None]:
        """Step the tracks of `people`; None for a track that had to start afresh."""
        before = [self._states[person.track_id] for person in people]
        due = [i for i, known in enumerate(before) if known is None or known.stamp_s < stamp_s]
        found = [known and known.state for known in before]
        steps = [_step(people[i], before[i], stamp_s) for i in due]
        for i, step, (pose, betas, memory) in zip(
                due, steps, self._advance(steps) if steps else []):
            known = before[i]
            pelvis = self._pelvis(known and known.state.pelvis, step)
            found[i] = self._kept(step.person.track_id, Smoothed(pose, betas, memory, pelvis))
        return found

    def _kept(self, track_id: str, body: Smoothed[Memory]) -> Smoothed[Memory] | None:
        if not body.is_finite:
            self._states.forget(track_id)
            return None
        self._states.keep(track_id, body)
        return body

    def _pelvis(self, state: OneEuroState | None, step: Step[Memory]) -> OneEuroState:
        place = step.person.joints3d[0]
        if state is None:
            return one_euro.begin(place, VECTORS)
        return one_euro.advance(state, place, step.step_s, self.settings.position, VECTORS)

    def _rebuilt(
            self, people: Sequence[Person], bodies: Sequence[Smoothed[Memory]],
            camera: Camera | None) -> list[Person]:
        """Return the people with the parameters of `bodies` and the joints that follow."""
        if not people:
            return []
        betas = np.stack([body.betas for body in bodies])
        rotmats = rotations.axis_angle_to_matrix(np.stack([body.pose for body in bodies]))
        joints, _ = self._body.pose_joints(rotmats, betas)
        pelvis = np.stack([body.pelvis.smoothed for body in bodies]).astype(np.float32)
        transl = pelvis - joints[:, 0]
        joints3d = joints + transl[:, None]
        joints2d = camera.project_ahead(joints3d)
        return [
            replace(person, global_orient=body.pose[0], body_pose=body.pose[1:], betas=body.betas,
                    transl=transl[i], joints3d=joints3d[i], joints2d=joints2d[i])
            for i, (person, body) in enumerate(zip(people, bodies))]


def _step(person: Person, before: Remembered | None, stamp_s: float) -> Step:
    if before is None:
        return Step(person, None, 0.0)
    return Step(person, before.state.memory, stamp_s - before.stamp_s)


def _is_finite(person: Person) -> bool:
    arrays = [
        person.global_orient, person.body_pose, person.betas, person.transl, person.joints3d]
    if (hands := person.hands_and_face) is not None:
        arrays += [hands.hand_pose, hands.jaw_pose, hands.expression, hands.hand_joints3d]
    return all(np.isfinite(array).all() for array in arrays)


class OneEuroSmoother(BodySmoother[tuple[OneEuroState, ...]]):
    """
    Filters rotations and shape of any engine's people by One-Euro filters; needs no weights.

    Its memory is the states of the filters of the rotations and of the shape.
    """

    def _fits(self, person: Person) -> bool:
        return True

    def _advance(self, steps: Sequence[Step]) -> list[tuple]:
        return [self._filtered(step) for step in steps]

    def _measured(self, person: Person) -> Measured:
        """Say what is filtered, how and where it lives: rotations, then coefficients."""
        turns = rotations.axis_angle_to_quaternion(person.pose.astype(np.float64))
        return ((turns, self.settings.rotation, ROTATIONS),
                (person.betas, self.settings.shape, VECTORS))

    def _filtered(self, step: Step) -> tuple:
        measured = self._measured(step.person)
        if step.memory is None:
            memory = tuple(one_euro.begin(value, space) for value, _, space in measured)
        else:
            memory = tuple(
                one_euro.advance(state, value, step.step_s, settings, space)
                for state, (value, settings, space) in zip(step.memory, measured))
        pose = rotations.quaternion_to_axis_angle(memory[0].smoothed)
        coefficients = np.concatenate([state.smoothed for state in memory[1:]])
        return pose.astype(np.float32), coefficients.astype(np.float32), memory
