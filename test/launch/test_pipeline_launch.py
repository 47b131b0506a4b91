# SPDX-License-Identifier: Apache-2.0
"""The launch file, for real: `launch_test` this file, or `colcon test`."""

from __future__ import annotations

import os
import unittest

import pytest

# The sources' own folder launch/ is importable as an empty package: ask for a module in it.
for package in ('launch.actions', 'launch_ros', 'launch_testing'):
    pytest.importorskip(
        package, reason=f'{package} is not installed: it comes with a ROS installation only')

from ament_index_python.packages import get_package_share_directory  # noqa: E402
from launch import LaunchDescription  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
import launch_testing  # noqa: E402
import launch_testing.actions  # noqa: E402
import launch_testing.asserts  # noqa: E402
import rclpy  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402

from hmr_ros.msg import PersonBoxArray, SmplArray  # noqa: E402

NAMESPACE = f'/launch_test_{os.getpid()}'
WAIT_S = 60.0


@pytest.mark.launch_test
@launch_testing.parametrize('composed', ['true', 'false'])
def generate_test_description(composed):
    file = os.path.join(get_package_share_directory('hmr_ros'), 'launch/pipeline.launch.py')
    # Off by default, with keypoints, which it starts: they must leave the others alone.
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(file),
        launch_arguments={'namespace': NAMESPACE, 'image': f'{NAMESPACE}/cam/image_raw',
                          'composed': composed, 'digitizer': 'true'}.items())
    return LaunchDescription([include, launch_testing.actions.ReadyToTest()])


class TestFlow(unittest.TestCase):
    """Images in, results out, with the same header."""

    @classmethod
    def setUpClass(cls):
        rclpy.init()
        cls.node = rclpy.create_node('tester')

    @classmethod
    def tearDownClass(cls):
        cls.node.destroy_node()
        rclpy.shutdown()

    def setUp(self):
        self.sent, self.received = set(), {'person_boxes': [], 'smpl': [], 'smpl_smoothed': []}
        for message_type, name in ((PersonBoxArray, 'person_boxes'), (SmplArray, 'smpl'),
                                   (SmplArray, 'smpl_smoothed')):
            self.node.create_subscription(
                message_type, f'{NAMESPACE}/{name}', self.received[name].append, 10)
        self.images = self.node.create_publisher(Image, f'{NAMESPACE}/cam/image_raw', 1)
        self.infos = self.node.create_publisher(CameraInfo, f'{NAMESPACE}/cam/camera_info', 1)
        self.node.create_timer(0.2, self.send)

    def send(self):
        image = Image(height=240, width=320, encoding='bgr8', step=960, data=bytes(960 * 240))
        image.header.stamp = self.node.get_clock().now().to_msg()
        image.header.frame_id = 'cam'
        info = CameraInfo(header=image.header, width=320, height=240,
                          k=[300.0, 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0])
        self.sent.add((image.header.stamp.sec, image.header.stamp.nanosec))
        self.infos.publish(info)
        self.images.publish(image)

    def test_every_result_has_the_header_of_an_image(self):
        deadline = self.node.get_clock().now().nanoseconds + WAIT_S * 1e9
        while not all(len(messages) >= 3 for messages in self.received.values()):
            counts = {name: len(messages) for name, messages in self.received.items()}
            self.assertLess(self.node.get_clock().now().nanoseconds, deadline, counts)
            rclpy.spin_once(self.node, timeout_sec=1.0)
        for messages in self.received.values():
            for message in messages:
                stamp = message.header.stamp
                self.assertIn((stamp.sec, stamp.nanosec), self.sent)
                self.assertEqual(message.header.frame_id, 'cam')


@launch_testing.post_shutdown_test()
class TestShutdown(unittest.TestCase):
    """SIGINT is an orderly end."""

    def test_exit_codes(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info)
