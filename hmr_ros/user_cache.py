# SPDX-License-Identifier: Apache-2.0
"""Where this program keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return where files are kept: `$XDG_CACHE_HOME/hmr_ros` or `~/.cache/hmr_ros`."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'hmr_ros'
