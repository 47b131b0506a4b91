# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: parameters, topics, lifecycle and diagnostics around `perception`."""
