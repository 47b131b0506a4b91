# SPDX-License-Identifier: Apache-2.0
"""Reports of commands: what ran, on what, with which versions."""

from __future__ import annotations

from importlib import metadata
import json
import os
from pathlib import Path
import platform
import subprocess
from typing import Any

from hmr_ros._version import __version__

_DISTRIBUTIONS = (
    'numpy', 'opencv-python-headless', 'onnxruntime', 'tensorrt', 'torch', 'ros-rclpy', 'mcap')


def machine() -> dict[str, Any]:
    """Processor, cores and system of this machine."""
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        lines = []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return {
        'processor': names[0] if names else platform.machine(), 'cores': os.cpu_count(),
        'system': f'{platform.system()} {platform.machine()}',
        'load_before': round(os.getloadavg()[0], 2)}


def versions() -> dict[str, str]:
    """Version of this package, of Python, and of what the live path stands on."""
    found = {'hmr_ros': __version__, 'python': platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Commit of the source tree, '' outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return ''
    try:
        result = subprocess.run(
            ['git', '-C', str(root), 'rev-parse', 'HEAD'], capture_output=True, text=True,
            timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return result.stdout.strip()


def context() -> dict[str, Any]:
    """Machine, versions and commit: part of every report."""
    return {'machine': machine(), 'versions': versions(), 'commit': commit()}


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write a report; numbers that are not finite become null."""
    text = json.dumps(_finite(report), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + '\n', encoding='utf-8')


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return round(value, 4) if abs(value) < float('inf') else None
    return value


def session_report(result: Any, source: str) -> dict[str, Any]:
    """
    Make the report of a demo from a `SessionResult`.

    frames_in counts every image that the source had ready; each was processed or dropped.
    """
    people = list(result.counts.people.values())
    frames_in = result.published + result.late
    return {
        'source': source, 'frames_in': frames_in, 'frames_processed': len(people),
        'frames_dropped': frames_in - len(people), 'frames_late_at_source': result.late,
        'people_mean': sum(people) / len(people) if people else 0.0,
        'tracks': len(result.counts.tracks), 'meshes': result.counts.meshes,
        'fps': len(people) / result.seconds if result.seconds else 0.0,
        'latency_ms': result.stages,
        'engine': {
            'name': result.facts.get('engine', ''), 'backend': result.facts.get('backend', ''),
            'precision': result.facts.get('precision', ''),
            'sha256': result.facts.get('engine_sha256', '')},
        'body_model': result.facts.get('body_model', ''),
        'camera': result.facts.get('camera', 'calibrated'),
        'cpu': result.cpu, 'memory_mb': result.memory_mb,
        'memory_growth_mb': result.memory_growth_mb,
        'pictures_not_recorded': result.counts.skipped, 'recording_errors': result.counts.errors,
        **context()}
