# SPDX-License-Identifier: Apache-2.0
"""From an image and person boxes to 3D bodies, all people of a frame in one batch."""

from __future__ import annotations

import abc
from dataclasses import dataclass
import time
from typing import Callable, Mapping, Protocol, Sequence

import numpy as np

from hmr_ros.body.model import BodyModel
from hmr_ros.perception import keypoint_guided, rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crop_plan import CropPlan, plan_crops
from hmr_ros.perception.crops import (
    BILINEAR, CropStyle, CropTransform, cut_crops, place_crops)
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.inverse_kinematics import solve_rotations
from hmr_ros.perception.keypoint_guided import JOINTS, Projection
from hmr_ros.perception.person import Person, PersonBox


class Network(Protocol):
    """What mesh recovery asks of an engine."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch."""
        ...


class CroppingNetwork(Network, Protocol):
    """An engine that may cut bilinear crops itself, so that their batch never leaves its device."""

    @property
    def run_crops(self) -> Callable[
            [np.ndarray, CropPlan, Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None:
        """Run one batch of crops of an image, given the other inputs; None where it cannot."""
        ...


#: runs some of the crops of a frame, given the other inputs of all of them.
_RunCrops = Callable[[slice, Mapping[str, np.ndarray]], dict[str, np.ndarray]]


class NetworkFacts(Protocol):
    """What an engine's manifest entry says about its input and its body."""

    name: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    projection: str
    body_model: str
    body_model_sha256: str


@dataclass(frozen=True)
class RecoverySettings:
    """
    How crops are made and outputs are read; `image_size`, `mean`, `std` come with the engine.

    image_size  side of the crop in pixels
    mean, std   per channel R, G, B of values 0 to 1
    max_batch   most crops in one call of the engine; more people take several calls
    projection  camera in which the engine's keypoints become a skeleton
    max_people  most people per frame; the best scores win
    """

    image_size: int = 256
    mean: tuple[float, float, float] = (0.406, 0.457, 0.480)
    std: tuple[float, float, float] = (0.225, 0.224, 0.229)
    max_batch: int = 16
    projection: Projection = Projection.REAL_CAMERA
    max_people: int = 32


def settings_for(facts: NetworkFacts | None, body: BodyModel) -> RecoverySettings:
    """
    Return the settings that a manifest entry asks for; the defaults when there is none.

    Raises PerceptionError when the engine was trained for another body than `body`: its shape
    coefficients would mean something else.
    """
    if facts is None:
        return RecoverySettings()
    if facts.body_model_sha256 and facts.body_model_sha256 != body.sha256:
        raise PerceptionError(
            f'engine {facts.name!r} was trained for the body model {facts.body_model!r} '
            f'({facts.body_model_sha256[:12]}), but {body.name!r} ({body.sha256[:12]}) is loaded; '
            'choose the body model of the engine, or another engine')
    return RecoverySettings(
        image_size=facts.image_size, mean=facts.mean, std=facts.std,
        projection=Projection(facts.projection))


@dataclass(frozen=True)
class RecoveryRecord:
    """
    Times in milliseconds of the last frame, and boxes and people that were left out of it.

    An engine that cuts the crops itself does so in `network_ms`; `crop_ms` is their planning then.
    """

    crop_ms: float = 0.0
    network_ms: float = 0.0
    decode_ik_ms: float = 0.0
    people: int = 0
    rejected_boxes: int = 0
    rejected_people: int = 0


@dataclass(frozen=True)
class Bodies:
    """
    What an engine's outputs mean for N people; float32, metres, the optical frame.

    rotmats (N, 24, 3, 3), betas (N, 10), transl (N, 3), joints3d (N, 24, 3), confidence (N, 24)
    """

    rotmats: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    joints3d: np.ndarray
    confidence: np.ndarray


class BodyRecovery(abc.ABC):
    """
    Recovers the bodies of all people of a frame by one engine; what each network does its own way.

    `rejected_boxes` and `rejected_people` count, since the start, boxes that show nothing of the
    image and people whose numbers cannot be used. `record` describes the last frame.
    """

    style: CropStyle = BILINEAR

    def __init__(
            self, engine: Network | CroppingNetwork, body: BodyModel,
            settings: RecoverySettings = RecoverySettings()) -> None:
        self._engine = engine
        self._body = body
        self._settings = settings
        self.rejected_boxes = 0
        self.rejected_people = 0
        self.record = RecoveryRecord()

    def recover(
            self, image: np.ndarray, color_order: str, camera: Camera,
            boxes: Sequence[PersonBox]) -> list[Person]:
        """
        Recover the people in `boxes`.

        image   uint8 `(H, W, 3)` in `color_order` 'rgb' or 'bgr', or `(H, W)` for 'gray'
        camera  of the rectified image; another resolution of the same view is scaled

        People keep the order of their boxes. Raises PerceptionError for an image or an engine that
        cannot be used, and passes on the engine's own error.
        """
        start = time.perf_counter()
        settings = self._settings
        boxes = best_boxes(boxes, settings.max_people)
        transforms = place_crops(
            image, color_order, np.array([box.box for box in boxes]).reshape(-1, 4),
            settings.image_size, self.style)
        used = [(box, t) for box, t in zip(boxes, transforms) if t is not None]
        run_crops = self._crops(image, color_order, [transform for _, transform in used])
        cropped = time.perf_counter()
        outputs = self._run(run_crops, len(used), self._other_feeds([box for box, _ in used]))
        inferred = time.perf_counter()
        height, width = image.shape[:2]
        if (camera.width, camera.height) != (width, height):
            camera = camera.resized(width, height)
        people = self._decode(outputs, used, camera) if used else []
        self._note(boxes, used, people, (start, cropped, inferred, time.perf_counter()))
        return people

    def _crops(
            self, image: np.ndarray, color_order: str,
            transforms: Sequence[CropTransform]) -> _RunCrops:
        """Cut the crops, or plan them for an engine that does it; return what runs them."""
        settings, run_crops = self._settings, getattr(self._engine, 'run_crops', None)
        if run_crops is not None and self.style is BILINEAR:
            plan = plan_crops(
                color_order, transforms, settings.image_size, settings.mean, settings.std)
            return lambda rows, feeds: run_crops(image, plan.part(rows), feeds)
        batch = cut_crops(
            image, color_order, transforms, settings.image_size, settings.mean, settings.std,
            self.style)
        return lambda rows, feeds: self._engine.run({'image': batch[rows], **feeds})

    def _other_feeds(self, boxes: Sequence[PersonBox]) -> dict[str, np.ndarray]:
        """Return the engine's inputs for `boxes` besides their crops."""
        return {}

    @abc.abstractmethod
    def _check(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Raise PerceptionError when they are not those of the network."""

    @abc.abstractmethod
    def _read(
            self, outputs: Mapping[str, np.ndarray], transforms: Sequence[CropTransform],
            camera: Camera) -> Bodies:
        """Read finite outputs of one or more people."""

    def _usable(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Tell, bool `(N,)`, whose numbers are finite."""
        good = np.ones(len(next(iter(outputs.values()))), bool)
        for array in outputs.values():
            good &= np.all(np.isfinite(array.reshape(len(good), -1)), axis=1)
        return good

    def _run(
            self, run_crops: _RunCrops, count: int,
            feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        step, parts = self._settings.max_batch, []
        for first in range(0, count, step):
            rows = slice(first, first + step)
            parts.append(run_crops(rows, {name: array[rows] for name, array in feeds.items()}))
        if not parts:
            return {}
        for part in parts:
            self._check(part)
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _decode(
            self, outputs: Mapping[str, np.ndarray],
            used: Sequence[tuple[PersonBox, CropTransform]], camera: Camera) -> list[Person]:
        good = self._usable(outputs)
        outputs = {name: array[good] for name, array in outputs.items()}
        used = [pair for pair, kept in zip(used, good) if kept]
        if not used:
            return []
        bodies = self._read(outputs, [transform for _, transform in used], camera)
        features = outputs.get('feature', np.zeros((len(used), 0), np.float32))
        pose = rotations.matrix_to_axis_angle(bodies.rotmats)
        return [
            _person(box, transform, camera, bodies, i, pose[i], features[i])
            for i, (box, transform) in enumerate(used)]

    def _note(
            self, boxes: Sequence[PersonBox], used: Sequence[tuple[PersonBox, CropTransform]],
            people: Sequence[Person], times: tuple[float, float, float, float]) -> None:
        crop_ms, network_ms, decode_ik_ms = 1000 * np.diff(times)
        rejected_boxes, rejected_people = len(boxes) - len(used), len(used) - len(people)
        self.rejected_boxes += rejected_boxes
        self.rejected_people += rejected_people
        self.record = RecoveryRecord(
            float(crop_ms), float(network_ms), float(decode_ik_ms), len(people), rejected_boxes,
            rejected_people)


class MeshRecovery(BodyRecovery):
    """Recovers bodies by an engine of keypoint_guided: keypoints, then inverse kinematics."""

    def _check(self, outputs: Mapping[str, np.ndarray]) -> None:
        keypoint_guided.check_outputs(outputs)

    def _read(
            self, outputs: Mapping[str, np.ndarray], transforms: Sequence[CropTransform],
            camera: Camera) -> Bodies:
        keypoints = keypoint_guided.decode(
            outputs, transforms, camera, self._settings.projection)
        betas = outputs['betas'].astype(np.float32)
        rest = np.concatenate(
            [self._body.rest_joints(betas), self._body.rest_leaves(betas)], axis=1)
        rotmats = solve_rotations(keypoints.skeleton[:, :JOINTS], rest, outputs['phi'])
        joints, _ = self._body.pose_joints(rotmats, betas)
        root = keypoint_guided.placed(keypoints, joints, camera, self._settings.projection)
        transl = root - joints[:, 0]
        return Bodies(
            rotmats, betas, transl, joints + transl[:, None], keypoints.confidence[:, :24])


def best_boxes(boxes: Sequence[PersonBox], count: int) -> list[PersonBox]:
    """Return the `count` boxes of the best scores, in their order."""
    if len(boxes) <= count:
        return list(boxes)
    kept = sorted(range(len(boxes)), key=lambda i: -boxes[i].score)[:count]
    return [boxes[i] for i in sorted(kept)]


def _person(
        box: PersonBox, transform: CropTransform, camera: Camera, bodies: Bodies, row: int,
        pose: np.ndarray, feature: np.ndarray) -> Person:
    score = 1.0 if np.isnan(box.score) else box.score
    confidence, joints3d = bodies.confidence[row], bodies.joints3d[row]
    return Person(
        track_id=box.track_id, score=float(score * confidence.mean()),
        box=np.asarray(box.box, np.float32), crop_transform=transform.matrix,
        global_orient=pose[0], body_pose=pose[1:], betas=bodies.betas[row],
        transl=bodies.transl[row].astype(np.float32), joints3d=joints3d.astype(np.float32),
        joints2d=camera.project_ahead(joints3d), joint_confidence=confidence,
        feature=np.asarray(feature, np.float32))
