# SPDX-License-Identifier: Apache-2.0
"""Bodies of people of any size in the image, by an engine of rsc_net."""

from __future__ import annotations

from typing import Mapping, Sequence

import numpy as np

from hmr_ros.body.model import BodyModel
from hmr_ros.perception import rsc_net
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crop_reading import Network
from hmr_ros.perception.crops import CropTransform
from hmr_ros.perception.mesh_recovery import Bodies, RecoverySettings, SmplRecovery
from hmr_ros.perception.person import PersonBox


class RscNetRecovery(SmplRecovery):
    """
    Recovers bodies by an engine of rsc_net, which is told how many pixels each crop had.

    A track changes its row of alpha with hysteresis. The network says nothing of its confidence:
    it is 1.
    """

    style = rsc_net.CROPS

    def __init__(
            self, engine: Network, body: BodyModel,
            settings: RecoverySettings = RecoverySettings()) -> None:
        super().__init__(engine, body, settings)
        self._rows = rsc_net.RowSelector()

    def _other_feeds(self, boxes: Sequence[PersonBox]) -> dict[str, np.ndarray]:
        sides = np.array([rsc_net.native_side(box.box) for box in boxes])
        return {'row': self._rows.rows([box.track_id for box in boxes], sides)}

    def _check(self, outputs: Mapping[str, np.ndarray]) -> None:
        rsc_net.check_outputs(outputs)

    def _usable(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return super()._usable(outputs) & rsc_net.usable(outputs)

    def _read(
            self, outputs: Mapping[str, np.ndarray], transforms: Sequence[CropTransform],
            camera: Camera) -> Bodies:
        found = rsc_net.decode(outputs, transforms, camera)
        joints, _ = self._body.pose_joints(found.rotmats, found.betas)
        return Bodies(
            found.rotmats, found.betas, found.transl, joints + found.transl[:, None],
            np.ones((len(joints), 24), np.float32))
