# SPDX-License-Identifier: Apache-2.0
"""Lets the tests of this folder share fabricated people."""

from __future__ import annotations

from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parent))
