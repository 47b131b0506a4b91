# SPDX-License-Identifier: Apache-2.0
"""Training and export of keypoint_guided."""
