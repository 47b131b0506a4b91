# SPDX-License-Identifier: Apache-2.0
"""The installed executables: from any folder, with one clear line when a parameter is wrong."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess

from ament_index_python.packages import get_package_prefix, get_package_share_directory
import cv2
import numpy as np
import pytest

from hmr_ros.msg import PersonBoxArray
from hmr_ros.nodes.pipeline import NODES

pytestmark = pytest.mark.ros


def program(name):
    return Path(get_package_prefix('hmr_ros')) / 'lib/hmr_ros' / name


def test_the_package_is_found_and_whole():
    share = Path(get_package_share_directory('hmr_ros'))
    for name in ('package.xml', 'msg/SmplArray.msg', 'launch/pipeline.launch.py',
                 'config/mesh_recovery.yaml', 'config/pipeline.rviz'):
        assert (share / name).is_file(), name
    for name in [*NODES, 'pipeline']:
        assert os.access(program(name), os.X_OK), name


@pytest.mark.parametrize('arguments, words', [
    (['-p', 'input_timeout_s:=5'], ['input_timeout_s is 5', '0.1 to 600', 'point']),
    (['-p', 'backend:=cuda'], ["backend is 'cuda'", 'onnxruntime']),
])
def test_a_wrong_parameter_ends_the_process_with_one_line(tmp_path, arguments, words):
    result = subprocess.run(
        [program('mesh_recovery'), '--ros-args', *arguments], cwd=tmp_path, timeout=90,
        capture_output=True, text=True)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and all(word in lines[0] for word in words), result.stderr


def test_a_composed_pipeline_runs_from_any_folder_and_says_goodbye(graph, tmp_path):
    pictures = tmp_path / 'pictures'
    pictures.mkdir()
    cv2.imwrite(str(pictures / '0.png'), np.zeros((240, 320, 3), np.uint8))
    graph.listen(PersonBoxArray, 'person_boxes')
    process = subprocess.Popen(
        [program('pipeline'), '--ros-args', '-r', f'__ns:={graph.namespace}', '-p',
         f'source:={pictures}', '-p', 'loop:=true', '-p', 'rate_hz:=10.0', '-p',
         'nodes:=[video_source, person_detector]'],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert graph.next_on('person_boxes', 3).image_width == 320
        graph.received['person_boxes'].clear()
        process.send_signal(signal.SIGINT)
        graph.until(lambda: graph.received['person_boxes']
                    and graph.received['person_boxes'][-1].image_width == 0, 'the goodbye')
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert 'Traceback' not in output
