# SPDX-License-Identifier: Apache-2.0
"""Plain `pip install` without ROS; pyproject.toml holds the rest. CMake builds ignore this."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=['hmr_ros', 'hmr_ros.*']),
    package_data={'hmr_ros': ['**/*.cu', '**/*.npz', '**/*.json', '**/*.yaml', '**/*.txt']},
    # Where a CMake build puts them too, so that the runtime looks in one place below a prefix.
    data_files=[('share/hmr_ros/engines', [
        str(path) for path in sorted(Path('engines').glob('*')) if path.is_file()])],
)
