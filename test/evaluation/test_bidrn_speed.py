# SPDX-License-Identifier: Apache-2.0
"""The benchmark of packed bits counts what it says, and has a row for all that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('numba', reason='packed layers need numba')
pytest.importorskip('onnxruntime', reason='floats are run by onnxruntime')
pytest.importorskip('torch', reason='the networks are torch')

from hmr_ros.evaluation import bidrn_speed  # noqa: E402
from hmr_ros.evaluation.popcount_limit import count_ones, popcount_limit  # noqa: E402
from hmr_ros.evaluation.speed_plots import binary_layers  # noqa: E402
from hmr_ros.runtime.packed_vectors import LANES, PIXELS  # noqa: E402

pytestmark = pytest.mark.torch


def test_the_limit_counts_what_it_should() -> None:
    words = [7919 * number for number in range(LANES * PIXELS)]
    assert count_ones(1000) == sum(
        bin(word ^ turn).count('1') for word in words for turn in range(1000))
    assert popcount_limit() > 1


def test_layers_are_those_of_the_sheet() -> None:
    names = [str(size) for size in bidrn_speed.layer_sizes('published')]
    assert len(names) == len(set(names)) == 19
    assert {'3x3 64->64 @64x48', '3x3 256->256 @16x12', '3x3 512->512 @8x6', '1x1 1024->256 @16x12',
            '1x1 64->256 @64x48', '3x3/2 128->128 @64x48'} <= set(names)


def test_all_rows(tmp_path: Path) -> None:
    report = bidrn_speed.benchmark_bidrn('compact', 0.01)
    assert [(row['part'], row['way']) for row in report['networks']] == [
        (part, way) for part in ('whole', 'body', 'hand', 'face') for way in bidrn_speed.WAYS]
    assert all(0 < row['best_ms'] <= row['p50_ms'] for row in report['networks'])
    for row in report['layers']:
        # Nothing is faster than counting alone; a noisy machine may have slowed that.
        assert 0 < row['share_of_limit'] < 1.5
        assert row['ratio'] == pytest.approx(row['float_ms'] / row['packed_ms'])
    binary_layers(report['layers'], report['limit_gmacs'], tmp_path / 'it.png')
    assert (tmp_path / 'it.png').stat().st_size > 10_000
