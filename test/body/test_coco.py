# SPDX-License-Identifier: Apache-2.0
"""COCO's keypoints lie where bodies have them, on the person's own sides."""

from __future__ import annotations

from hmr_ros.body import load_body
from hmr_ros.body.coco import face_vertices, LIMBS
from hmr_ros.perception.simcc import COCO_NAMES
import numpy as np
from scipy.spatial.transform import Rotation

BODY = load_body()


def test_face_is_where_faces_have_it() -> None:
    nose, left_eye, right_eye, left_ear, right_ear = BODY.v_template[face_vertices(BODY)]
    np.testing.assert_allclose(left_eye * (-1, 1, 1), right_eye, atol=1e-6)
    np.testing.assert_allclose(left_ear * (-1, 1, 1), right_ear, atol=1e-6)
    # Own axes of the body: x to the person's left, y up, z to the front.
    assert abs(nose[0]) < 1e-3 and 0.025 < left_eye[0] < 0.04 and 0.06 < left_ear[0] < 0.1
    assert nose[2] > left_eye[2] > left_ear[2] + 0.08
    assert 0.02 < left_eye[1] - nose[1] < 0.06 and abs(left_eye[1] - left_ear[1]) < 0.03


def test_limbs_are_named_by_the_own_side() -> None:
    rest = BODY.joint_template[LIMBS]
    for name, point in zip(COCO_NAMES[5:], rest):
        assert (point[0] > 0) == name.startswith('left'), name
    heights = dict(zip(COCO_NAMES[5:], rest[:, 1]))
    assert heights['left_shoulder'] > heights['left_hip'] > heights['left_knee']
    assert heights['left_knee'] > heights['left_ankle']


def test_few_vertices_move_as_all_do() -> None:
    rng = np.random.default_rng(1)
    rotmats = Rotation.from_rotvec(rng.normal(0, 0.4, (72, 3))).as_matrix()
    rotmats = rotmats.reshape(3, 24, 3, 3).astype(np.float32)
    betas, chosen = rng.normal(size=(3, 10)).astype(np.float32), np.array([5, 600, 3000, 6800])
    every, _ = BODY.skin(rotmats, betas, np.zeros((3, 3), np.float32))
    points, turns = BODY.skin_few(chosen, rotmats, betas)
    np.testing.assert_allclose(points, every[:, chosen], atol=2e-6)
    assert turns.shape == (3, 4, 3, 3)
