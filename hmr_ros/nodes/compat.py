# SPDX-License-Identifier: Apache-2.0
"""What differs between Humble and newer distributions."""

from __future__ import annotations

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.signals import SignalHandlerOptions

__all__ = ['ExternalShutdownException', 'init_without_signal_handlers']


def init_without_signal_handlers(args: list[str] | None = None) -> None:
    """
    Start rclpy and leave signals to Python.

    rclpy's own handlers invalidate the context at once, and a node could no longer say goodbye.
    `with rclpy.init():` is newer than Jazzy.
    """
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
