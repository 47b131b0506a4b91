# SPDX-License-Identifier: Apache-2.0
"""Reads the YAML file that camera_calibration writes."""

from __future__ import annotations

from pathlib import Path

from sensor_msgs.msg import CameraInfo
import yaml

from hmr_ros.nodes.errors import NodeError

REMEDY = 'expected a file written by camera_calibration'


def read_camera_info(path: str) -> CameraInfo:
    """
    Read a calibration; an empty path gives an uncalibrated CameraInfo.

    Raises NodeError when the file cannot be read or lacks a value.
    """
    if not path:
        return CameraInfo()
    try:
        values = yaml.safe_load(Path(path).expanduser().read_text())
        return CameraInfo(
            width=int(values['image_width']), height=int(values['image_height']),
            distortion_model=str(values['distortion_model']),
            d=_numbers(values, 'distortion_coefficients'), k=_numbers(values, 'camera_matrix', 9),
            r=_numbers(values, 'rectification_matrix', 9),
            p=_numbers(values, 'projection_matrix', 12))
    except (OSError, yaml.YAMLError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise NodeError(f'camera_info_file {path}: {error}; {REMEDY}') from error
    except KeyError as error:
        raise NodeError(f'camera_info_file {path}: {error} is missing; {REMEDY}') from error


def _numbers(values: dict, name: str, count: int | None = None) -> list[float]:
    numbers = [float(value) for value in values[name]['data']]
    if count is not None and len(numbers) != count:
        raise ValueError(f'{name} has {len(numbers)} numbers, expected {count}')
    return numbers
