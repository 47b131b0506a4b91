# SPDX-License-Identifier: Apache-2.0
"""Keeps every test process on a ROS graph of its own, before anything imports rclpy."""

from __future__ import annotations

import os
import tempfile

# Ids above 101 collide with the ephemeral ports of Linux.
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 101)
if os.environ.get('ROS_DISTRO') == 'humble':
    os.environ['ROS_LOCALHOST_ONLY'] = '1'
else:
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'
os.environ.setdefault('ROS_LOG_DIR', tempfile.mkdtemp(prefix='hmr_ros_log_'))
