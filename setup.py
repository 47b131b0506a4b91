# SPDX-License-Identifier: Apache-2.0
"""Plain `pip install` without ROS; pyproject.toml holds the rest. A CMake build ignores this file."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=['hmr_ros', 'hmr_ros.*']), 'hmr_ros.engines'],
    # Engines lie beside the sources, because CMake installs them into share/; a wheel carries them
    # inside the package.
    package_dir={'hmr_ros.engines': 'engines'},
    package_data={
        'hmr_ros': ['**/*.npz', '**/*.json', '**/*.yaml', '**/*.txt'],
        'hmr_ros.engines': ['*.yaml', '*.onnx'],
    },
)
