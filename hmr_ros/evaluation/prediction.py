# SPDX-License-Identifier: Apache-2.0
"""What keypoint_guided says of crops that are cut already, each from a camera of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import cv2
import numpy as np

from hmr_ros.body.model import BodyModel
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception import keypoint_guided
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crop_reading import Network
from hmr_ros.perception.crops import CropTransform
from hmr_ros.perception.inverse_kinematics import solve_rotations
from hmr_ros.perception.keypoint_guided import JOINTS, Keypoints, Projection
from hmr_ros.perception.mesh_recovery import RecoverySettings


@dataclass(frozen=True)
class Crops:
    """
    N crops: images (N, S, S, 3) uint8 RGB, and for each its place in its picture and its camera.
    """

    images: np.ndarray
    transforms: Sequence[CropTransform]
    cameras: Sequence[Camera]


@dataclass(frozen=True)
class Predictions:
    """
    N recovered bodies, float32, metres in the optical frame, pixels of the pictures.

    rotmats (N, 24, 3, 3), betas (N, 10), transl (N, 3); joints3d (N, 24, 3) and their projection
    joints2d (N, 24, 2); keypoints2d (N, 24, 2) are the network's own, before inverse kinematics,
    and confidence (N, 24), 0 to 1, is what it says of them. feature (N, F) is the engine's own, of
    no width where it has none.
    """

    rotmats: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    joints3d: np.ndarray
    joints2d: np.ndarray
    keypoints2d: np.ndarray
    confidence: np.ndarray
    feature: np.ndarray


def coarsened(images: np.ndarray, pixels: int) -> np.ndarray:
    """Images `(N, S, S, 3)` uint8 as if the crop had only `pixels` pixels a side."""
    size = images.shape[1]
    if pixels >= size:
        return images
    return np.stack([
        cv2.resize(cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA),
                   (size, size), interpolation=cv2.INTER_LINEAR) for image in images])


def predict(
        engine: Network, body: BodyModel, settings: RecoverySettings,
        crops: Crops) -> Predictions:
    """Recover the bodies of `crops`; raises EvaluationError when the network gives NaN."""
    outputs = _run(engine, settings, crops.images)
    keypoints = _decode(outputs, crops, settings.projection)
    betas = outputs['betas'].astype(np.float32)
    rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], axis=1)
    rotmats = solve_rotations(keypoints.skeleton[:, :JOINTS], rest, outputs['phi'])
    joints, _ = body.pose_joints(rotmats, betas)
    root = np.concatenate([
        keypoint_guided.placed(keypoints.row(i), joints[i:i + 1], camera, settings.projection)
        for i, camera in enumerate(crops.cameras)])
    transl = root - joints[:, 0]
    joints = joints + transl[:, None]
    return Predictions(
        rotmats, betas, transl, joints, project_each(joints, crops.cameras),
        keypoints.pixels[:, :24], keypoints.confidence[:, :24],
        outputs.get('feature', np.zeros((len(betas), 0), np.float32)))


def project_each(points: np.ndarray, cameras: Sequence[Camera]) -> np.ndarray:
    """Pixels `(N, K, 2)` of points `(N, K, 3)`, each row by its own camera."""
    return np.stack([camera.project_ahead(row) for camera, row in zip(cameras, points)])


def normalised(images: np.ndarray, settings: RecoverySettings) -> np.ndarray:
    """Crops `(N, S, S, 3)` uint8 RGB as an engine takes them, `(N, 3, S, S)` float32."""
    batch = images.astype(np.float32) / 255
    batch = (batch - np.float32(settings.mean)) / np.float32(settings.std)
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))


def _run(engine: Network, settings: RecoverySettings, images: np.ndarray) -> dict[str, np.ndarray]:
    parts = []
    for first in range(0, len(images), settings.max_batch):
        batch = normalised(images[first:first + settings.max_batch], settings)
        parts.append(engine.run({'image': batch}))
        keypoint_guided.check_outputs(parts[-1])
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for name, array in outputs.items():
        if not np.all(np.isfinite(array)):
            raise EvaluationError(
                f'engine output {name!r} holds NaN or infinity; the network cannot be evaluated. '
                'Check its weights')
    return outputs


def _decode(
        outputs: dict[str, np.ndarray], crops: Crops, projection: Projection) -> Keypoints:
    names = ('uvd', 'sigma', 'cam')
    each = [
        keypoint_guided.decode(
            {name: outputs[name][i:i + 1] for name in names}, [transform], camera, projection)
        for i, (transform, camera) in enumerate(zip(crops.transforms, crops.cameras))]
    return Keypoints(*(
        np.concatenate([getattr(one, name) for one in each])
        for name in ('skeleton', 'root', 'pixels', 'confidence')))
