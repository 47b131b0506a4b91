# SPDX-License-Identifier: Apache-2.0
"""The work of the pipeline the way it is usually written, to compare the pipeline with."""

from __future__ import annotations

import os

import numpy as np
import smplx
import torch

from hmr_ros.body import load_body
from hmr_ros.body.loading import OPEN_BODY
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.detection import HogPersonDetector, HogSettings
from hmr_ros.perception.mesh_recovery import MeshRecovery, settings_for
from hmr_ros.perception.person import Person, PersonBox
from hmr_ros.runtime import load_engine

FOV_DEG = 55.0


class NaivePeople:
    """
    People of one picture after the other: every place is searched in every picture, each person
    goes through the network alone, run by torch, and smplx makes the mesh.

    Decoding and inverse kinematics are the pipeline's own.
    """

    def __init__(self, max_people: int, engine: str = 'keypoint_guided') -> None:
        """`engine` names the one whose network is run, for at most `max_people` people."""
        network = load_engine(engine, 'torch', threads=os.cpu_count() or 1)
        body = load_body()
        self._detector = HogPersonDetector(HogSettings(scan_frames=1, max_people=max_people))
        self._recovery = MeshRecovery(network, body, settings_for(network.entry, body))
        self._body = _smplx_body()
        self.faces = body.faces

    def __call__(self, image_bgr: np.ndarray) -> list[np.ndarray]:
        """Return the vertices `(V, 3)` of each person in `image_bgr`, uint8 `(H, W, 3)`."""
        height, width = image_bgr.shape[:2]
        camera = Camera.from_fov(width, height, FOV_DEG)
        return [vertices for box in self._detector.detect(image_bgr)
                for vertices in self._vertices(image_bgr, camera, box)]

    def _vertices(
            self, image_bgr: np.ndarray, camera: Camera, box: PersonBox) -> list[np.ndarray]:
        people = self._recovery.recover(image_bgr, 'bgr', camera, [box])
        return [self._skinned(person) for person in people]

    def _skinned(self, person: Person) -> np.ndarray:
        arrays = {'betas': person.betas, 'transl': person.transl,
                  'global_orient': person.global_orient, 'body_pose': person.body_pose.ravel()}
        with torch.no_grad():
            output = self._body(**{
                name: torch.from_numpy(np.ascontiguousarray(array))[None]
                for name, array in arrays.items()})
        return output.vertices[0].numpy()


def _smplx_body() -> smplx.SMPL:
    """Load the open body's file as smplx loads SMPL."""
    with np.load(OPEN_BODY) as file:
        data = smplx.utils.Struct(**{name: file[name] for name in file.files})
    return smplx.SMPL('', data_struct=data, batch_size=1)
