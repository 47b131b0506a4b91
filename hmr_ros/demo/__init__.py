# SPDX-License-Identifier: Apache-2.0
"""What `hmr demo` needs besides the nodes: clips, recordings, pictures, reports. No ROS here."""
