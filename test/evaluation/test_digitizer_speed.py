# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the digitizer tells every stage, and works on somebody who is there."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('onnxruntime', reason='the networks are run by onnxruntime')
pytest.importorskip('onnx', reason='export needs onnx')
pytest.importorskip('torch', reason='the networks are torch')

from hmr_ros.evaluation import digitizer_speed  # noqa: E402
from hmr_ros.evaluation.digitizer_speed import benchmark_digitizer, Plan, Variant  # noqa: E402
from hmr_ros.evaluation.digitizer_timing import KnownPerson  # noqa: E402
from hmr_ros.evaluation.errors import EvaluationError  # noqa: E402
from hmr_ros.perception.digitizer.depth import BACK_EMPTY, FRONT_EMPTY  # noqa: E402
from hmr_ros.perception.digitizer.digitization import STAGES  # noqa: E402
from hmr_ros.training.digitizer_2k2k.scans import Scan  # noqa: E402

pytestmark = pytest.mark.torch


def plate(side: int) -> Scan:
    """Somebody flat, with joints of shoulders and hips."""
    there = np.zeros((side, side), bool)
    there[side // 8:-side // 8, side // 3:-side // 3] = True
    joints = np.full((31, 2), np.nan, np.float32)
    joints[[5, 6, 11, 12]] = np.float32([(.58, .25), (.42, .25), (.55, .5), (.45, .5)]) * side
    return Scan(
        np.full((side, side, 4), 99, np.uint8), np.where(there, 1.9, FRONT_EMPTY).astype('f'),
        np.where(there, 2.1, BACK_EMPTY).astype('f'), joints, np.zeros((0, 3)), np.zeros((0, 3)), 1)


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        digitizer_speed, 'draw_scans', lambda count, side, seed: iter([plate(side)] * count))


def test_all_stages_are_told(people: None) -> None:
    told: list[str] = []
    report = benchmark_digitizer(Plan(Variant(512, 1 / 32), seconds=0.01), told.append)
    assert tuple(report['stages_ms']) == STAGES and min(report['stages_ms'].values()) > 0
    assert report['total_ms'] == pytest.approx(sum(report['stages_ms'].values()), rel=0.5)
    assert (report['resolution'], report['width'], report['backend']) == (
        512, 1 / 32, 'onnxruntime')
    assert report['runs'] >= 3 and report['memory_mb'] > 10
    assert told == ['exporting networks', 'drawing a person', 'digitizing']


def test_engines_that_cannot_be_timed_are_named(people: None) -> None:
    with pytest.raises(EvaluationError, match='cannot be timed.*precision is fp16'):
        benchmark_digitizer(Plan(Variant(512, 1 / 32), backend='onnxruntime', precision='fp16'))


def test_networks_work_and_the_person_is_the_known_one() -> None:
    scan, fed = plate(512), []

    class Networks:
        resolution = 512

        def low(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            fed.append('low')
            return np.zeros((6, 64, 64), np.float32), np.zeros((3, 64, 64), np.float32)

        def refine(self, pair: np.ndarray, normals: np.ndarray) -> np.ndarray:
            fed.append('refine')
            return np.zeros((3, 512, 512), np.float32)
    known = KnownPerson(Networks(), scan.front, scan.back)
    assert known.resolution == 512
    _, low = known.low(np.zeros((3, 64, 64), np.float32))
    np.testing.assert_array_equal(low[0], scan.front[3::8, 3::8])
    np.testing.assert_array_equal(low[2] > 0.5, low[0] < FRONT_EMPTY)
    np.testing.assert_array_equal(known.refine(low[:2], low)[1], scan.back)
    assert fed == ['low', 'refine']
