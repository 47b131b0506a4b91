# SPDX-License-Identifier: Apache-2.0
"""How long refining the people of one frame takes, without finding their keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hmr_ros.body import load_body
from hmr_ros.body.coco import face_vertices, LIMBS
from hmr_ros.body.model import BodyModel
from hmr_ros.perception import rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.person import Person, PersonKeypoints
from hmr_ros.perception.refinement import Refiner
from hmr_ros.runtime.benchmark import times_ms

_CAMERA = Camera.from_fov(640, 480, 55.0)
#: from the body's own axes to the optical frame.
_UPRIGHT = np.diag(np.float32([1, -1, -1]))
_OFF_PX = 8.0


def benchmark_refinement(people: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """
    Refine frames of so many people, in turns, `seconds` for each.

    Returns rows of people, p50_ms, p95_ms.
    """
    body, works = load_body(), []
    for count in people:
        rng = np.random.default_rng(0)
        pairs = [_pair(body, i, rng) for i in range(count)]
        bodies, keypoints = (list(column) for column in zip(*pairs))
        refiner = Refiner(body)
        works.append(lambda r=refiner, b=bodies, k=keypoints: r.refine(b, k, _CAMERA))
    times = times_ms(works, seconds)[:, 1:]
    return [{'people': count, 'p50_ms': float(np.percentile(row, 50)),
             'p95_ms': float(np.percentile(row, 95))} for count, row in zip(people, times)]


def _pair(
        body: BodyModel, index: int, rng: np.random.Generator) -> tuple[Person, PersonKeypoints]:
    """Somebody in a pose that is drawn, and keypoints beside that."""
    pose = rng.normal(0, 0.2, (24, 3)).astype(np.float32)
    rotmats = rotations.axis_angle_to_matrix(pose)[None]
    rotmats[0, 0] = _UPRIGHT @ rotmats[0, 0]
    betas, transl = np.zeros(10, np.float32), np.float32([0, 0, 4 + index])
    joints = body.pose_joints(rotmats, betas[None])[0][0] + transl
    face = body.skin_few(face_vertices(body), rotmats, betas[None])[0][0] + transl
    pixels = _CAMERA.project(np.concatenate([face, joints[LIMBS]]))
    box = np.float32([*pixels.min(axis=0), *pixels.max(axis=0)])
    pose[0] = rotations.matrix_to_axis_angle(rotmats[0, 0])
    person = Person(
        f'p{index}', 1.0, box, np.zeros((2, 3), np.float32), pose[0], pose[1:], betas, transl,
        joints, _CAMERA.project_ahead(joints), np.ones(24, np.float32))
    seen = pixels + rng.normal(0, _OFF_PX, (1, 2)) + rng.normal(0, 2, pixels.shape)
    return person, PersonKeypoints(
        f'p{index}', 1.0, box, seen.astype(np.float32), np.full(17, 0.8, np.float32))
