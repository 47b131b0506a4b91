# SPDX-License-Identifier: Apache-2.0
"""The README's program for use as a library does what it says."""

from __future__ import annotations

import json
from pathlib import Path
import re
import subprocess
import sys

import cv2

from hmr_ros.demo import synthetic

README = Path(__file__).resolve().parents[1] / 'README.md'


def test_the_library_example_finds_people_and_needs_no_ros(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, 'SECONDS', 1 / synthetic.RATE_HZ)
    synthetic.write_walk(tmp_path / 'walk.avi')
    _, picture = cv2.VideoCapture(str(tmp_path / 'walk.avi')).read()
    cv2.imwrite(str(tmp_path / 'people.jpg'), picture)
    program, = re.findall(r'```python\n(.*?)```', README.read_text(encoding='utf-8'), re.DOTALL)
    program += (
        '\nimport json, sys\n'
        'print(json.dumps([[m for m in ("rclpy", "torch") if m in sys.modules],'
        ' [p.transl.tolist() for p in people]]))\n')
    output = subprocess.check_output([sys.executable, '-c', program], cwd=tmp_path, text=True)
    unwanted, places = json.loads(output.splitlines()[-1])
    assert unwanted == [] and '(24, 3)' in output
    x, _, z = places[0]
    assert x < 0 and 2 < z < 10, 'somebody on the left, some metres away'
