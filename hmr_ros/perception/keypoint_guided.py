# SPDX-License-Identifier: Apache-2.0
"""Decoding of the keypoint_guided network: crop coordinates to metres in the camera's frame."""

from __future__ import annotations

from dataclasses import dataclass, fields
import enum
from typing import Mapping, Sequence

import numpy as np

from hmr_ros.perception.camera import Camera, NEAREST_M
from hmr_ros.perception.crops import CropTransform
from hmr_ros.perception.outputs import check_shapes
from hmr_ros.perception.placement import fit_roots

KEYPOINTS = 96
JOINTS = 29
# Depth in metres of one unit of d.
DEPTH_SCALE_M = 2.2
# Focal length in crop pixels of the camera that the authors' networks were trained with.
VIRTUAL_FOCAL = 1000.0
# A scale outside these puts a person of any size at an absurd distance.
_SCALE_RANGE = (0.05, 20.0)
# What counts as right for the confidence, in crop sides: about 0.2 of the torso.
NEAR = 0.055
_OUTPUT_SHAPES = {
    'uvd': (KEYPOINTS, 3), 'sigma': (KEYPOINTS, 3), 'phi': (23, 2), 'betas': (10,), 'cam': (3,)}


class Projection(enum.Enum):
    """
    The camera in which a network's keypoints become a skeleton.

    REAL_CAMERA  the calibrated camera: own networks
    KNOWN_BOX    the authors' virtual camera at the image centre: networks imported from them
    """

    REAL_CAMERA = 'real_camera'
    KNOWN_BOX = 'known_box'


@dataclass(frozen=True)
class Keypoints:
    """
    Decoded keypoints of N people; rows 0..28 are joints and leaves, the rest markers.

    skeleton   (N, 96, 3)  metres relative to keypoint 0, axes of the optical frame
    root       (N, 3)      keypoint 0 in metres in the optical frame
    pixels     (N, 96, 2)  pixels of the full image
    confidence (N, 96)     0 to 1
    """

    skeleton: np.ndarray
    root: np.ndarray
    pixels: np.ndarray
    confidence: np.ndarray

    def row(self, index: int) -> Keypoints:
        """Return the keypoints of one person, N = 1."""
        return Keypoints(*(getattr(self, field.name)[index:index + 1] for field in fields(self)))


def check_outputs(outputs: Mapping[str, np.ndarray]) -> None:
    """Raise PerceptionError when an output of the engine is missing or has another shape."""
    check_shapes(outputs, _OUTPUT_SHAPES, 'keypoint_guided')


def _frames(transforms: Sequence[CropTransform]) -> tuple[np.ndarray, np.ndarray]:
    centers = np.array([(t.center_x, t.center_y) for t in transforms], np.float64).reshape(-1, 2)
    return centers, np.array([t.side for t in transforms], np.float64)


def _back_project(camera: Camera, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
    depth = np.maximum(depth, NEAREST_M)[..., None]
    rays = (pixels - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
    return np.concatenate([rays * depth, depth], axis=-1)


def _known_box_points(
        uvd: np.ndarray, scale: np.ndarray, transforms: Sequence[CropTransform],
        camera: Camera) -> np.ndarray:
    centers, sides = _frames(transforms)
    size = np.array([t.size for t in transforms])
    offset = (centers - (0.5 * camera.width, 0.5 * camera.height)) / sides[:, None]
    depth = DEPTH_SCALE_M * uvd[..., 2:] + (VIRTUAL_FOCAL / (size * scale))[:, None, None]
    lateral = (uvd[..., :2] + offset[:, None]) * (size / VIRTUAL_FOCAL)[:, None, None] * depth
    return np.concatenate([lateral, DEPTH_SCALE_M * uvd[..., 2:]], axis=-1)


def decode(
        outputs: Mapping[str, np.ndarray], transforms: Sequence[CropTransform], camera: Camera,
        projection: Projection = Projection.REAL_CAMERA) -> Keypoints:
    """
    Decode the engine's outputs for N crops (sheet keypoint_guided, section 1.3).

    outputs    `uvd`, `sigma` (N, 96, 3) and `cam` (N, 3), finite
    transforms the N crops
    camera     the camera of the full, rectified image

    The root always lies in the calibrated camera, at depth f / (s * side), where f is the mean
    focal length; `projection` decides how the root-relative skeleton is formed.
    """
    uvd = np.asarray(outputs['uvd'], np.float64)
    scale = np.clip(np.asarray(outputs['cam'], np.float64)[:, 0], *_SCALE_RANGE)
    centers, sides = _frames(transforms)
    pixels = centers[:, None] + uvd[..., :2] * sides[:, None, None]
    focal = 0.5 * (camera.fx + camera.fy)
    depth = (focal / (scale * sides))[:, None] + DEPTH_SCALE_M * (uvd[..., 2] - uvd[:, :1, 2])
    points = _back_project(camera, pixels, depth)
    root = points[:, 0]
    if projection is Projection.KNOWN_BOX:
        points = _known_box_points(uvd, scale, transforms, camera)
    confidence = _confidence(np.asarray(outputs['sigma'], np.float64), projection)
    return Keypoints(
        (points - points[:, :1]).astype(np.float32), root.astype(np.float32),
        pixels.astype(np.float32), confidence.astype(np.float32))


def placed(
        keypoints: Keypoints, joints: np.ndarray, camera: Camera,
        projection: Projection = Projection.REAL_CAMERA) -> np.ndarray:
    """
    Roots `(N, 3)` float32 in metres of posed bodies, whose bones have lengths of their own.

    joints (N, 24, 3) of the bodies, wherever they are. Own networks: where their joints are seen;
    imported ones: where the network puts the root (sheet, section 1.3).
    """
    if projection is Projection.KNOWN_BOX:
        return keypoints.root
    rays = (keypoints.pixels[:, :24] - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
    return fit_roots(
        joints - joints[:, :1], rays, keypoints.confidence[:, :24],
        keypoints.root).astype(np.float32)


def _confidence(sigma: np.ndarray, projection: Projection) -> np.ndarray:
    """
    Confidence `(N, K)` of keypoints with `sigma` (N, K, 3).

    Own networks learn sigma as the spread of a Laplace distribution; theirs is the chance that u
    and v are both right within NEAR. Imported ones: 1 less the mean of sigma (sheet 1.1).
    """
    if projection is Projection.KNOWN_BOX:
        return np.clip(1 - sigma.mean(axis=-1), 0, 1)
    return np.prod(1 - np.exp(-NEAR / np.maximum(sigma[..., :2], 1e-6)), axis=-1)


def encode(
        points: np.ndarray, transforms: Sequence[CropTransform],
        camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """
    Make the targets that `decode` inverts, for the calibrated camera.

    points (N, K, 3) metres in the optical frame, keypoint 0 the pelvis. Returns uvd (N, K, 3) and
    the scale s (N,), both float32.
    """
    points = np.asarray(points, np.float64)
    centers, sides = _frames(transforms)
    pixels = points[..., :2] / points[..., 2:] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    uv = (pixels - centers[:, None]) / sides[:, None, None]
    d = (points[..., 2:] - points[:, :1, 2:]) / DEPTH_SCALE_M
    scale = 0.5 * (camera.fx + camera.fy) / (points[:, 0, 2] * sides)
    return np.concatenate([uv, d], axis=-1).astype(np.float32), scale.astype(np.float32)
