# SPDX-License-Identifier: Apache-2.0
"""The camera of a node's images: calibrated as `camera_info` says, else assumed."""

from __future__ import annotations

from sensor_msgs.msg import CameraInfo

from hmr_ros.nodes.conversions import camera_from_info
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import ManagedNode
from hmr_ros.nodes.qos import image_qos
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.errors import PerceptionError


class CameraInput:
    """Keeps the newest `camera_info` of a node that has the parameters of CAMERA."""

    def __init__(self, node: ManagedNode) -> None:
        self._node = node
        self._info: CameraInfo | None = None

    def listen(self) -> None:
        """Subscribe until deactivate; before images, so that it is known with the first one."""
        self._node.listen(CameraInfo, 'camera_info', self._on_info, image_qos())

    def camera_for(self, width: int, height: int) -> Camera:
        """Return the calibrated camera, else the assumed one. Raises NodeError without either."""
        camera, problem = self._calibrated()
        facts = self._node.diagnostics.facts
        if camera is not None:
            self._warn_of_distortion()
            facts['camera'] = 'calibrated'
            return camera.resized(width, height)
        fov_deg = self._node.parameters['fallback_fov_deg']
        if not fov_deg:
            raise NodeError(f'{problem}. Publish a calibration, or set fallback_fov_deg')
        text = (f'{problem}; assuming a vertical field of view of {fov_deg} degrees '
                '(fallback_fov_deg), so distances are guesses')
        if problem == self._uncalibrated:
            self._node.get_logger().warning(text, once=True)
        else:
            self._node.complain('camera', text)
        facts['camera'] = text
        return Camera.from_fov(width, height, fov_deg)

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    @property
    def _topic(self) -> str:
        return self._node.resolve_topic_name('camera_info')

    @property
    def _uncalibrated(self) -> str:
        return f'{self._topic} says that the camera is not calibrated'

    def _calibrated(self) -> tuple[Camera | None, str]:
        """Return the calibrated camera, or None and the reason."""
        if self._info is None:
            return None, f'no camera_info on {self._topic} yet'
        try:
            camera = camera_from_info(self._info, self._node.parameters['image_is_rectified'])
        except (PerceptionError, NodeError) as error:
            return None, f'camera_info on {self._topic} cannot be used: {error}'
        return camera, self._uncalibrated

    def _warn_of_distortion(self) -> None:
        if any(self._info.d) and not self._node.parameters['image_is_rectified']:
            self._node.get_logger().warning(
                f'{self._topic} has distortion, which is not modelled: run image_proc rectify, '
                'remap image to image_rect and set image_is_rectified', once=True)
