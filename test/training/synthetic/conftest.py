# SPDX-License-Identifier: Apache-2.0
"""One small store of people for all tests of this room."""

from __future__ import annotations

from pathlib import Path
import sys

import pytest

from hmr_ros.training.synthetic import CutoutStore, render_cutouts

sys.path.insert(0, str(Path(__file__).parent))

from capsule_body import capsule_body  # noqa: E402


@pytest.fixture(scope='session')
def store() -> CutoutStore:
    """Twelve capsule people."""
    return render_cutouts(capsule_body(), 12, seed=3, size=160)
