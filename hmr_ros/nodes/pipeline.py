# SPDX-License-Identifier: Apache-2.0
"""All nodes in one process: the executable `pipeline`, and the same for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
import sys
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from hmr_ros.nodes.detection_bridge import DetectionBridgeNode
from hmr_ros.nodes.digitizer import DigitizerNode
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.keypoints import KeypointsNode
from hmr_ros.nodes.lifecycle import close_nodes, ManagedNode, run_nodes
from hmr_ros.nodes.mesh_markers import MeshMarkersNode
from hmr_ros.nodes.mesh_recovery import MeshRecoveryNode
from hmr_ros.nodes.parameters import NodeParameters, TABLES
from hmr_ros.nodes.person_detector import PersonDetectorNode
from hmr_ros.nodes.temporal_smoother import TemporalSmootherNode
from hmr_ros.nodes.video_source import VideoSourceNode

# In the order of the flow: each starts before what feeds it, so that nothing is missed.
NODES: dict[str, Callable[..., ManagedNode]] = {
    'mesh_markers': MeshMarkersNode,
    'digitizer': DigitizerNode,
    'temporal_smoother': TemporalSmootherNode,
    'mesh_recovery': MeshRecoveryNode,
    'keypoints': KeypointsNode,
    'person_detector': PersonDetectorNode,
    'detection_bridge': DetectionBridgeNode,
    'video_source': VideoSourceNode,
}
# Who reads the smoothed people in place of the raw ones when there are some.
SMOOTHED_READERS = ('mesh_markers',)
SMOOTHED_REMAPPING = ['--ros-args', '-r', 'smpl:=smpl_smoothed']


def make_nodes(
        names: Iterable[str], parameters: Mapping[str, Mapping[str, Any]] | None = None,
        **node_arguments: Any) -> dict[str, ManagedNode]:
    """
    Make nodes by name, last of the flow first.

    With `temporal_smoother` among them, `mesh_markers` reads `smpl_smoothed` in place of `smpl`.
    `parameters` gives values by node and parameter; they win over files and command line. Raises
    NodeError for a name or value that is not allowed; nothing is left behind then.
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in NODES]
    if unknown:
        raise NodeError(f'parameter nodes names {unknown}; allowed: {", ".join(NODES)}')
    nodes: dict[str, ManagedNode] = {}
    try:
        for name in NODES:
            if name in wanted:
                values = (parameters or {}).get(name, {})
                overrides = [Parameter(key, value=value) for key, value in values.items()]
                smoothed = name in SMOOTHED_READERS and 'temporal_smoother' in wanted
                nodes[name] = NODES[name](
                    parameter_overrides=overrides,
                    cli_args=SMOOTHED_REMAPPING if smoothed else None, **node_arguments)
    except NodeError:
        close_nodes(list(nodes.values()))
        raise
    return nodes


def _nodes_from_parameters() -> list[ManagedNode]:
    """Make the nodes that the parameter `nodes` of this process names."""
    chooser = Node('pipeline')
    try:
        names = NodeParameters(chooser, TABLES['pipeline'])['nodes']
    finally:
        chooser.destroy_node()
    return list(make_nodes(names).values())


def main(args: list[str] | None = None) -> int:
    """Run the nodes."""
    return run_nodes(_nodes_from_parameters, args)


if __name__ == '__main__':
    sys.exit(main())
