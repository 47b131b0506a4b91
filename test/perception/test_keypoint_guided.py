# SPDX-License-Identifier: Apache-2.0
"""Acceptance check 10 of the keypoint_guided sheet: encode, decode, both cameras."""

from bodies import random_rotations, rest_skeleton
import numpy as np
import pytest

from hmr_ros.perception import inverse_kinematics as ik
from hmr_ros.perception import keypoint_guided
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import CropTransform
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.keypoint_guided import Projection

CAMERA = Camera(910.0, 905.0, 650.0, 350.0, 1280, 720)


def posed_people(depth_m, ray):
    """Return joints `(4, 29, 3)` of posed people, pelvis at `depth_m` on the pixel `ray`."""
    rest, rotmats = rest_skeleton(4), random_rotations(4, sigma=0.4, seed=7)
    joints, _ = ik.forward_kinematics(rotmats, rest)
    x = (ray[0] - CAMERA.cx) / CAMERA.fx * depth_m
    y = (ray[1] - CAMERA.cy) / CAMERA.fy * depth_m
    return joints - joints[:, :1] + np.float32([x, y, depth_m])


def boxes_around(joints):
    pixels = CAMERA.project(joints)
    return [CropTransform.from_box(np.concatenate([p.min(0), p.max(0)]), 256) for p in pixels]


def padded(uvd, scale):
    """Return engine outputs that hold `uvd` of 29 joints, markers zero."""
    count = len(uvd)
    return {
        'uvd': np.concatenate([uvd, np.zeros((count, 67, 3), np.float32)], axis=1),
        'sigma': np.tile(np.float32([0.1, 0.2, 0.3]), (count, 96, 1)),
        'cam': np.stack([scale, 0 * scale, 0 * scale], axis=1)}


@pytest.mark.parametrize('depth_m', [2.0, 5.0, 10.0])
@pytest.mark.parametrize('ray', [(640, 360), (20, 40), (1270, 700)])
def test_real_camera_gives_the_joints_back(depth_m, ray):
    joints = posed_people(depth_m, ray)
    transforms = boxes_around(joints)
    uvd, scale = keypoint_guided.encode(joints, transforms, CAMERA)
    keypoints = keypoint_guided.decode(padded(uvd, scale), transforms, CAMERA)
    decoded = keypoints.skeleton[:, :29] + keypoints.root[:, None]
    assert np.abs(decoded - joints).max() < 1e-3
    np.testing.assert_allclose(keypoints.pixels[:, :29], CAMERA.project(joints), atol=0.01)
    chance = (1 - np.exp(-keypoint_guided.NEAR / np.array([0.1, 0.2]))).prod()
    np.testing.assert_allclose(keypoints.confidence, chance, atol=1e-6)


def test_confidence_is_the_share_of_laplace_errors_within_reach():
    sigma = np.float32([0.02, 0.08, 0.05])
    joints = posed_people(3.0, (640, 360))[:1]
    outputs = padded(*keypoint_guided.encode(joints, boxes_around(joints), CAMERA))
    outputs['sigma'][:] = sigma
    found = keypoint_guided.decode(outputs, boxes_around(joints), CAMERA).confidence
    errors = np.random.default_rng(0).laplace(0, sigma[:2], (200_000, 2))
    share = np.all(np.abs(errors) < keypoint_guided.NEAR, axis=1).mean()
    np.testing.assert_allclose(found, share, atol=0.005)


def test_known_box_inverts_the_virtual_camera():
    # A virtual camera of the authors: principal point at the image centre, focal F * side / size.
    transform = CropTransform(300.0, 400.0, 250.0, 256)
    focal = 1000 * transform.side / 256
    virtual = Camera(focal, focal, 640.0, 360.0, 1280, 720)
    rest = rest_skeleton()
    joints = rest - rest[:, :1] + np.float32([-0.9, 0.2, 4.0])
    uv = (virtual.project(joints) - (300, 400)) / 250
    d = (joints[..., 2:] - 4.0) / 2.2
    outputs = padded(
        np.concatenate([uv, d], axis=-1).astype(np.float32), np.float32([1000 / 256 / 4.0]))
    keypoints = keypoint_guided.decode(outputs, [transform], CAMERA, Projection.KNOWN_BOX)
    np.testing.assert_allclose(
        keypoints.skeleton[:, :29], joints - joints[:, :1], atol=1e-5)
    np.testing.assert_allclose(keypoints.confidence, 0.8, atol=1e-6)
    # The root lies in the calibrated camera all the same: same pixel, same size in the image.
    np.testing.assert_allclose(
        CAMERA.project(keypoints.root), virtual.project(joints[:, 0]), atol=0.01)


def test_absurd_scales_stay_finite_and_in_front():
    transforms = [CropTransform(100.0, 100.0, 50.0, 256)] * 4
    scale = np.float32([0, -3, 1e9, 1e-9])
    rng = np.random.default_rng(0)
    uvd = rng.normal(0, 3, (4, 29, 3)).astype(np.float32)
    keypoints = keypoint_guided.decode(padded(uvd, scale), transforms, CAMERA)
    assert np.all(np.isfinite(keypoints.skeleton)) and np.all(keypoints.root[:, 2] > 0)


def test_foreign_engine_is_refused_by_tensor_name():
    outputs = {
        'uvd': np.zeros((1, 29, 3)), 'sigma': np.zeros((1, 96, 3)), 'phi': np.zeros((1, 23, 2)),
        'betas': np.zeros((1, 10)), 'cam': np.zeros((1, 3))}
    with pytest.raises(PerceptionError, match=r"'uvd'.*\(1, 29, 3\)"):
        keypoint_guided.check_outputs(outputs)
    del outputs['uvd']
    with pytest.raises(PerceptionError, match="no output 'uvd'"):
        keypoint_guided.check_outputs(outputs)
