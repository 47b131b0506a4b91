# SPDX-License-Identifier: Apache-2.0
"""The README's parameter tables are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='the parameter tables need rclpy')
from hmr_ros.nodes.errors import NodeError  # noqa: E402
from hmr_ros.nodes.parameter_docs import with_tables  # noqa: E402

pytestmark = pytest.mark.ros
README = Path(__file__).resolve().parents[2] / 'README.md'


def test_readme_tables_are_current() -> None:
    text = README.read_text(encoding='utf-8')
    assert with_tables(text) == text, 'run: python -m hmr_ros.nodes.parameter_docs README.md'


def test_readme_without_markers_is_refused() -> None:
    with pytest.raises(NodeError, match='lacks the lines'):
        with_tables('# no tables here\n')
