# SPDX-License-Identifier: Apache-2.0
"""Qualities of service: how each kind of topic is sent and received."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions


def image_qos() -> QoSProfile:
    """Subscribe to images and camera_info: matches every camera; the depth drops stale frames."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE)


def image_output_qos() -> QoSProfile:
    """Publish images and camera_info: reliable, because that matches every subscriber."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE)


def result_qos() -> QoSProfile:
    """Boxes, people, markers: nothing is lost, and a slow reader gets the newest few."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE)


def latched_qos() -> QoSProfile:
    """Publish what seldom comes: who subscribes later gets the newest one, too."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL)


def overridable() -> QoSOverridingOptions:
    """Let parameters `qos_overrides.<topic>...` change history, depth and reliability."""
    return QoSOverridingOptions.with_default_policies()
