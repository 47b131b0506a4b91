# SPDX-License-Identifier: Apache-2.0
"""From an image and person boxes to 3D bodies, all people of a frame in one batch."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Protocol, Sequence

import numpy as np

from hmr_ros.body.model import BodyModel, SkinnedModel
from hmr_ros.perception import keypoint_guided, rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crop_reading import (
    certainty_of, CroppingNetwork, CropReader, CropSettings, Network, Outputs, Placed)
from hmr_ros.perception.crops import CropTransform
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.inverse_kinematics import solve_rotations
from hmr_ros.perception.keypoint_guided import JOINTS, Projection
from hmr_ros.perception.person import Person, PersonBox


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
class RecoverySettings(CropSettings):
    """
    How crops are made and outputs are read.

    projection  camera in which the engine's keypoints become a skeleton
    """

    image_size: int = 256
    mean: tuple[float, float, float] = (0.406, 0.457, 0.480)
    std: tuple[float, float, float] = (0.225, 0.224, 0.229)
    projection: Projection = Projection.REAL_CAMERA


def settings_for(facts: NetworkFacts | None, body: SkinnedModel) -> RecoverySettings:
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


class BodyRecovery(CropReader[Person]):
    """Recovers the bodies of all people of a frame by one engine."""

    _settings: RecoverySettings

    def __init__(
            self, engine: Network | CroppingNetwork, body: SkinnedModel,
            settings: RecoverySettings = RecoverySettings()) -> None:
        super().__init__(engine, settings)
        self._body = body

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
        def decode(outputs: Outputs, used: Placed) -> list[Person]:
            height, width = image.shape[:2]
            same = (camera.width, camera.height) == (width, height)
            return self._people(outputs, used, camera if same else camera.resized(width, height))

        return self._read_frame(image, color_order, boxes, decode)

    @abc.abstractmethod
    def _people(self, outputs: Outputs, used: Placed, camera: Camera) -> list[Person]:
        """Read finite outputs of one or more people."""


class SmplRecovery(BodyRecovery):
    """Recovers bodies of 24 joints."""

    _body: BodyModel

    @abc.abstractmethod
    def _read(
            self, outputs: Outputs, transforms: Sequence[CropTransform],
            camera: Camera) -> Bodies:
        """Read finite outputs of one or more people."""

    def _people(self, outputs: Outputs, used: Placed, camera: Camera) -> list[Person]:
        bodies = self._read(outputs, [transform for _, transform in used], camera)
        features = outputs.get('feature', np.zeros((len(used), 0), np.float32))
        pose = rotations.matrix_to_axis_angle(bodies.rotmats)
        return [
            _person(box, transform, camera, bodies, i, pose[i], features[i])
            for i, (box, transform) in enumerate(used)]


class MeshRecovery(SmplRecovery):
    """Recovers bodies by an engine of keypoint_guided: keypoints, then inverse kinematics."""

    def _check(self, outputs: Outputs) -> None:
        keypoint_guided.check_outputs(outputs)

    def _read(
            self, outputs: Outputs, transforms: Sequence[CropTransform],
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


def _person(
        box: PersonBox, transform: CropTransform, camera: Camera, bodies: Bodies, row: int,
        pose: np.ndarray, feature: np.ndarray) -> Person:
    confidence, joints3d = bodies.confidence[row], bodies.joints3d[row]
    return Person(
        track_id=box.track_id, score=float(certainty_of(box) * confidence.mean()),
        box=np.asarray(box.box, np.float32), crop_transform=transform.matrix,
        global_orient=pose[0], body_pose=pose[1:], betas=bodies.betas[row],
        transl=bodies.transl[row].astype(np.float32), joints3d=joints3d.astype(np.float32),
        joints2d=camera.project_ahead(joints3d), joint_confidence=confidence,
        feature=np.asarray(feature, np.float32))
