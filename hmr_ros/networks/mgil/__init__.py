# SPDX-License-Identifier: Apache-2.0
"""mgil: keypoints of people who cover few pixels, by downsampling that loses nothing."""

from hmr_ros.networks.mgil.downsampling import Downsampling, NAMED, STRIDED
from hmr_ros.networks.mgil.pose import build_pose, PoseNetwork, PoseVariant, square

__all__ = [
    'Downsampling', 'NAMED', 'PoseNetwork', 'PoseVariant', 'STRIDED', 'build_pose', 'square']
