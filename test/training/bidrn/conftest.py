# SPDX-License-Identifier: Apache-2.0
"""What the tests of this room share: fabricated people, and a small store of rendered ones."""

from __future__ import annotations

from pathlib import Path
import sys

import pytest

from hmr_ros.body import load_whole_body
from hmr_ros.training.bidrn.people import render_whole_people, WholePeople

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope='session')
def whole_people() -> WholePeople:
    """Ten people in windows of 160 pixels."""
    return render_whole_people(load_whole_body(), 10, seed=3, size=160)
