# SPDX-License-Identifier: Apache-2.0
"""The live algorithms: numpy and OpenCV only, no ROS, no torch."""
