# SPDX-License-Identifier: Apache-2.0
"""Keeps every test process on a ROS graph of its own, before anything imports rclpy."""

from __future__ import annotations

import os
import tempfile

import pytest

# Ids above 101 collide with the ephemeral ports of Linux.
os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 101)
if os.environ.get('ROS_DISTRO') == 'humble':
    os.environ['ROS_LOCALHOST_ONLY'] = '1'
else:
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
os.environ['ROS_PYTHON_CHECK_FIELDS'] = '1'
os.environ.setdefault('ROS_LOG_DIR', tempfile.mkdtemp(prefix='hmr_ros_log_'))


@pytest.fixture(scope='session')
def settled():
    """Return what gives norms and gates of mgil values as training might leave them."""
    from torch import nn

    from hmr_ros.networks.mgil.block import Gate

    def settle(network):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
            if isinstance(module, Gate):
                nn.init.normal_(module.fc.weight)
        return network.eval()
    return settle
