# SPDX-License-Identifier: Apache-2.0
"""How much time `temporal_smoother` adds to a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import rclpy
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from hmr_ros.body import BodyModel
from hmr_ros.msg import SmplArray
from hmr_ros.nodes.conversions import camera_to_message, person_to_message
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.temporal_smoother import TemporalSmootherNode
from hmr_ros.perception import rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.person import Person
from hmr_ros.runtime import resolve_engine

RATE_HZ = 25
CAMERA = Camera.from_fov(640, 480, 55.0)


def benchmark_smoother(engine: str, people: int, frames: int = 300) -> dict[str, Any]:
    """
    Smooth `frames` frames of `people` people who move at random, message in, message out.

    engine  a temporal engine as parameter temporal_engine names it; '' for One-Euro filters

    Returns method, engine, people, p50_ms, p95_ms. Raises NodeError when the node cannot start.
    """
    parameters = {'method': 'learned' if engine else 'one_euro', 'temporal_engine': engine,
                  'autostart': True}
    context = rclpy.Context()
    rclpy.init(context=context)
    node = TemporalSmootherNode(context=context, parameter_overrides=[
        Parameter(name, value=value) for name, value in parameters.items()])
    try:
        if not node.start():
            raise NodeError(f'temporal_smoother does not start: {node.diagnostics.blocked}')
        entry = resolve_engine(engine)[1] if engine else None
        size = entry.inputs.get('feature', (-1, 0))[1] if entry else 0
        for frame in range(frames):
            message = _message(node._body, frame, people, size)
            message.engine_sha256 = entry.features_of if entry else ''
            node.on_worker(lambda item=message: node.process(item))
        p50, p95 = node.diagnostics.latency['smoothing'].percentiles()
        method = node.diagnostics.facts['method']
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    return {'method': method, 'engine': engine, 'people': people, 'p50_ms': p50, 'p95_ms': p95}


def _message(body: BodyModel, frame: int, people: int, size: int) -> SmplArray:
    rng = np.random.default_rng(frame)
    sec, nanosec = divmod(frame * 1_000_000_000 // RATE_HZ, 1_000_000_000)
    message = SmplArray(
        header=Header(frame_id='camera'), body_model=body.name, body_model_sha256=body.sha256)
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    camera_to_message(CAMERA, message)
    message.people = [
        person_to_message(_person(body, f'p{i}', size, rng)) for i in range(people)]
    return message


def _person(body: BodyModel, track_id: str, size: int, rng: np.random.Generator) -> Person:
    pose = rng.normal(0, 0.2, (24, 3)).astype(np.float32)
    betas, transl = np.zeros(10, np.float32), np.float32([0, 0, 4])
    joints, _ = body.pose_joints(rotations.axis_angle_to_matrix(pose)[None], betas[None])
    joints3d = joints[0] + transl
    return Person(
        track_id=track_id, score=1.0, box=np.zeros(4, np.float32),
        crop_transform=np.zeros((2, 3), np.float32), global_orient=pose[0], body_pose=pose[1:],
        betas=betas, transl=transl, joints3d=joints3d, joints2d=CAMERA.project_ahead(joints3d),
        joint_confidence=np.ones(24, np.float32),
        feature=rng.normal(0, 0.5, size).astype(np.float32))
