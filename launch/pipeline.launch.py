# SPDX-License-Identifier: Apache-2.0
"""
People with 3D bodies from a camera's topics, or from a video.

    ros2 launch hmr_ros pipeline.launch.py image:=/camera/image_raw
    ros2 launch hmr_ros pipeline.launch.py source:=/path/to/video.mp4 composed:=true rviz:=true
    ros2 launch hmr_ros pipeline.launch.py image:=/camera/image_raw detections:=/detections
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

FLOW = ('mesh_recovery', 'mesh_markers')
BOOL = ('true', 'false')
# Name, default, meaning, choices. An empty default leaves it to the parameter files.
ARGUMENTS = (
    ('namespace', '', 'namespace of all nodes and topics', None),
    ('params_file', '', 'YAML file whose values win over those of config/', None),
    ('source', '', 'video file, camera index, stream URL or folder of pictures to play; empty: '
     'a camera driver publishes the images', None),
    ('image', '', 'image topic; empty: image', None),
    ('camera_info', '', 'camera_info topic; empty: the one beside the image topic', None),
    ('detections', '', 'topic of vision_msgs/Detection2DArray of a detector of your own, with the '
     'stamps of its images; empty: person_detector looks for people', None),
    ('image_transport', '', 'how images arrive', ('', 'raw', 'compressed')),
    ('engine', '', 'engine that recovers bodies: name in the manifest, or path', None),
    ('backend', '', 'what runs the network',
     ('', 'auto', 'onnxruntime', 'packed', 'tensorrt', 'torch')),
    ('smooth', 'true', 'temporal smoothing: markers are drawn from smpl_smoothed', BOOL),
    ('keypoints', 'false', '2D keypoints too, drawn on the overlay', BOOL),
    ('digitizer', 'false', 'meshes of people on demand, by the service digitize; starts keypoints '
     'too', BOOL),
    ('refine', '', 'turn and shift bodies until they show their joints at 2D keypoints',
     ('', 'none', 'keypoints')),
    ('detector_method', '', 'how people are looked for', ('', 'hog', 'learned')),
    ('composed', 'false', 'all nodes in one process', BOOL),
    ('rviz', 'false', 'start RViz', BOOL),
    ('fixed_frame', 'camera_optical_frame', 'fixed frame of RViz', None),
    ('use_sim_time', 'false', 'take the time from /clock', BOOL),
    ('autostart', '', 'configure and activate the nodes', ('', *BOOL)),
    ('log_level', 'info', 'least severity that the nodes log',
     ('debug', 'info', 'warn', 'error', 'fatal')),
)


def _camera_info_beside(image: str) -> str:
    """Return the camera_info topic that belongs to an image topic."""
    return image.rpartition('/')[0] + '/camera_info' if '/' in image else 'camera_info'


def _remappings(value: dict[str, str], executable: str) -> list[tuple[str, str]]:
    image, info = value['image'], value['camera_info']
    if image and not info:
        info = _camera_info_beside(image)
    topics = (('image', image), ('camera_info', info), ('detections', value['detections']))
    found = [(name, topic) for name, topic in topics if topic]
    # In one process, pipeline itself does so.
    if executable == 'mesh_markers' and value['smooth'] == 'true':
        found.append(('smpl', 'smpl_smoothed'))
    return found


def _given(value: dict[str, str]) -> dict[str, str | bool]:
    """Return the parameters that the user gave as arguments."""
    given: dict[str, str | bool] = {'use_sim_time': value['use_sim_time'] == 'true'}
    given.update({name: value[name] for name in (
        'source', 'image_transport', 'engine', 'backend', 'refine', 'detector_method')
        if value[name]})
    if value['autostart']:
        given['autostart'] = value['autostart'] == 'true'
    return given


def _node(value: dict[str, str], executable: str, names: list[str]) -> Node:
    """Return the action that runs `names` in the process `executable`."""
    config = Path(get_package_share_directory('hmr_ros')) / 'config'
    parameters: list = [str(config / f'{name}.yaml') for name in names]
    parameters += [value['params_file']] if value['params_file'] else []
    parameters.append(_given(value))
    if executable == 'pipeline':
        parameters.append({'nodes': names})
    space = value['namespace'].strip('/').replace('/', '.')
    levels = []
    # Of our loggers only: a global level brings the middleware's noise.
    for name in names:
        logger = f'{space}.{name}' if space else name
        levels += ['--log-level', f'{logger}:={value["log_level"]}']
    return Node(
        package='hmr_ros', executable=executable, namespace=value['namespace'],
        parameters=parameters, remappings=_remappings(value, executable),
        arguments=['--ros-args', *levels], output='screen', emulate_tty=True)


def _nodes(context: LaunchContext) -> list[Node]:
    value = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    detector = 'detection_bridge' if value['detections'] else 'person_detector'
    optional = [name for name, wanted in (
        ('temporal_smoother', value['smooth'] == 'true'),
        ('keypoints', 'true' in (value['keypoints'], value['digitizer'])),
        ('digitizer', value['digitizer'] == 'true'), ('video_source', value['source'])) if wanted]
    names = [detector, *FLOW, *optional]
    if value['composed'] == 'true':
        nodes = [_node(value, 'pipeline', names)]
    else:
        nodes = [_node(value, name, [name]) for name in names]
    if value['rviz'] == 'true':
        view = Path(get_package_share_directory('hmr_ros')) / 'config/pipeline.rviz'
        nodes.append(Node(
            package='rviz2', executable='rviz2', namespace=value['namespace'],
            arguments=['-d', str(view), '-f', value['fixed_frame']], output='screen'))
    return nodes


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and start the nodes."""
    arguments = []
    for name, default, description, choices in ARGUMENTS:
        limits = {'choices': list(choices)} if choices else {}
        arguments.append(DeclareLaunchArgument(
            name, default_value=default, description=description, **limits))
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes)])
