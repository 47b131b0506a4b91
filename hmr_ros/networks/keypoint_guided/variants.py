# SPDX-License-Identifier: Apache-2.0
"""The networks by name, and the shapes of their engines."""

from __future__ import annotations

from hmr_ros.networks.keypoint_guided.compact import CompactKeypointGuided
from hmr_ros.networks.keypoint_guided.network import KeypointGuided, Variant

AnyNetwork = KeypointGuided | CompactKeypointGuided
COMPACT = Variant('compact')


def build_network(variant: Variant) -> AnyNetwork:
    """Build a network with random weights."""
    return CompactKeypointGuided() if variant == COMPACT else KeypointGuided(variant)


def input_shapes(network: AnyNetwork) -> dict[str, tuple[int, ...]]:
    """Shapes of the engine's inputs, -1 for the people."""
    return {'image': (-1, 3, network.image_size, network.image_size)}


def output_shapes(network: AnyNetwork) -> dict[str, tuple[int, ...]]:
    """Shapes of the engine's outputs, -1 for the people."""
    return {'uvd': (-1, network.keypoints, 3), 'sigma': (-1, network.keypoints, 3),
            'phi': (-1, 23, 2), 'betas': (-1, 10), 'cam': (-1, 3),
            'feature': (-1, network.feature_width)}
