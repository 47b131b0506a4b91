# SPDX-License-Identifier: Apache-2.0
"""One small store of people with hands and faces for all tests of this room."""

from __future__ import annotations

import pytest

from hmr_ros.body import load_whole_body
from hmr_ros.training.bidrn.people import render_whole_people, WholePeople


@pytest.fixture(scope='session')
def whole_people() -> WholePeople:
    """Ten people in windows of 160 pixels."""
    return render_whole_people(load_whole_body(), 10, seed=3, size=160)
