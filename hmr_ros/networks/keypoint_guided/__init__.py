# SPDX-License-Identifier: Apache-2.0
"""keypoint_guided: MGFENet, 96 keypoints, twist, shape and camera (Chen and Wang)."""

from hmr_ros.networks.keypoint_guided.mgfenet import MGFENet
from hmr_ros.networks.keypoint_guided.network import KeypointGuided, Variant

__all__ = ['KeypointGuided', 'MGFENet', 'Variant']
