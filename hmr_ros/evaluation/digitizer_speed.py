# SPDX-License-Identifier: Apache-2.0
"""How long digitizing one person takes, stage by stage, and how much memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import json
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import torch
from torch import nn

from hmr_ros.evaluation import digitizer_timing
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.networks.digitizer_2k2k import build_network, Variant
from hmr_ros.perception.digitizer.parts import RESOLUTIONS
from hmr_ros.runtime import resolve_engine
from hmr_ros.training.digitizer_2k2k.export import export_engines
from hmr_ros.training.digitizer_2k2k.scans import draw_scans, Scan

__all__ = ['benchmark_digitizer', 'Plan', 'RESOLUTIONS', 'Variant']
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """
    What is timed.

    variant    networks with random weights, which are as fast as trained ones
    engine     engines of the manifest instead, without the last part of their names; or ''
    backend    as for `load_engine`
    precision  as for `load_engine`
    threads    cores of one call
    seconds    at least
    """

    variant: Variant
    engine: str = ''
    backend: str = 'auto'
    precision: str = 'auto'
    threads: int = 1
    seconds: float = 2.0


def benchmark_digitizer(plan: Plan, tell: Tell = lambda _: None) -> dict[str, Any]:
    """
    Digitize a drawn person again and again, in a fresh process.

    Returns backend, precision, resolution, width (None for engines), threads, runs, stages_ms,
    total_ms (both p50) and memory_mb: resident at its peak, less what it had before engines were
    opened. Raises EvaluationError when the process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        name, side = plan.engine, plan.variant.resolution
        if name:
            _, entry = resolve_engine(f'{name}_low')
            side = entry.image_size
        else:
            tell('exporting networks')
            name = _exported(plan.variant, Path(folder))
        tell('drawing a person')
        person = _saved(next(draw_scans(1, side, 0)), Path(folder) / 'person.npz')
        tell('digitizing')
        found = _measured(name, person, plan)
    width = None if plan.engine else plan.variant.width
    return {**found, 'width': width, 'threads': plan.threads}


def _exported(variant: Variant, folder: Path) -> str:
    torch.manual_seed(0)
    network = build_network(variant)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # Numbers near 0 can be slow.
            nn.init.kaiming_normal_(module.weight)
    export_engines(network, folder, 'it', 'float32')
    return f'{folder}/it'


def _saved(scan: Scan, path: Path) -> Path:
    np.savez(path, image=np.ascontiguousarray(scan.image[..., :3]), joints=scan.joints,
             front=scan.front, back=scan.back)
    return path


def _measured(name: str, person: Path, plan: Plan) -> dict[str, Any]:
    words = [name, person, plan.backend, plan.precision, plan.threads, plan.seconds]
    done = subprocess.run(
        [sys.executable, '-m', digitizer_timing.__name__, *map(str, words)], capture_output=True,
        text=True, check=False)
    if done.returncode:
        raise EvaluationError(
            f'the digitizer {name} cannot be timed: {done.stderr.strip().splitlines()[-1:]}')
    return json.loads(done.stdout)
