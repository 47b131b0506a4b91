# SPDX-License-Identifier: Apache-2.0
"""keypoint_guided: 96 keypoints, twist, shape and camera (Chen and Wang), and a compact variant."""

from hmr_ros.networks.keypoint_guided.mgfenet import MGFENet
from hmr_ros.networks.keypoint_guided.network import KeypointGuided, Variant
from hmr_ros.networks.keypoint_guided.variants import (
    AnyNetwork, build_network, COMPACT, input_shapes, output_shapes)

__all__ = [
    'AnyNetwork', 'COMPACT', 'KeypointGuided', 'MGFENet', 'Variant', 'build_network',
    'input_shapes', 'output_shapes']
