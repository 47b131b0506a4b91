# SPDX-License-Identifier: Apache-2.0
"""Who is judged how: flawless networks reach the floor, the camera's distance is nobody's fault."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('numba', reason='metrics of surfaces need numba')
pytest.importorskip('trimesh', reason='metrics of surfaces need trimesh')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.evaluation import digitizer  # noqa: E402
from hmr_ros.evaluation.digitizer import (  # noqa: E402
    BODY, Contest, CUT_OUT, depth_ratio, Errors, FLOOR, FOUND, judge_people, meshed_by, open_networks,
    Outcome, picture_of, run_evaluation, summary, Truth)
from hmr_ros.evaluation.digitizer_metrics import Shape  # noqa: E402
from hmr_ros.evaluation.errors import EvaluationError  # noqa: E402
from hmr_ros.evaluation.subject import Subject  # noqa: E402
from hmr_ros.perception.digitizer.depth import (  # noqa: E402
    BACK_EMPTY, depth_of, FRONT_EMPTY, length_of)
from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.training.digitizer_2k2k.scans import draw_scans, Scan  # noqa: E402

SIDE = 512


@pytest.fixture(scope='module')
def scan() -> Scan:
    return next(draw_scans(1, SIDE, 4))


@pytest.fixture(scope='module')
def subject() -> Subject:
    return Subject.of(load_engine('keypoint_guided'), load_body())


class Oracle:
    """Networks that know the depth of one scan."""

    resolution = SIDE

    def __init__(self, front: np.ndarray, back: np.ndarray) -> None:
        self.pair = np.stack([front, back])

    @property
    def whole(self) -> np.ndarray:
        there = self.pair[:1] <= self.pair[1:]
        return np.concatenate([self.pair, there]).astype(np.float32)

    def low(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert image.shape == (3, SIDE // 8, SIDE // 8)
        return np.zeros((6, SIDE // 8, SIDE // 8), np.float32), self.whole[:, 3::8, 3::8]

    def parts(self, patches: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return patches

    def refine(self, _pair: np.ndarray, _normals: np.ndarray) -> np.ndarray:
        return self.whole


def judged(subject: Subject, scan: Scan, networks: Oracle | None) -> Outcome | None:
    outcome, = judge_people(Contest(networks, meshed_by('direct'), subject), iter([scan]))
    return outcome


def farther(depth: np.ndarray, empty: float, factor: float) -> np.ndarray:
    return np.where(depth == empty, empty, depth_of(length_of(depth) * factor))


def test_flawless_networks_reach_the_floor_and_distance_is_forgiven(
        subject: Subject, scan: Scan) -> None:
    moved = Oracle(farther(scan.front, FRONT_EMPTY, 1.06), farther(scan.back, BACK_EMPTY, 1.06))
    outcome = judged(subject, scan, moved)
    assert outcome is not None and set(outcome.judged) == {FOUND, CUT_OUT, FLOOR, BODY}
    errors = {name: one.errors for name, one in outcome.judged.items()}
    assert errors[FOUND].scale == pytest.approx(1 / 1.06, rel=1e-3)
    assert errors[FLOOR].scale == pytest.approx(1, rel=1e-3)
    for name in ('p2s_cm', 'chamfer_cm', 'normal_deg', 'iou_percent'):
        assert getattr(errors[FOUND], name) == pytest.approx(getattr(errors[FLOOR], name), rel=.1)
    # At 512 pixels one is half a centimetre wide.
    assert errors[FLOOR].chamfer_cm < 1 and errors[FLOOR].iou_percent > 80
    assert errors[BODY].chamfer_cm > 2 * errors[FLOOR].chamfer_cm
    assert errors[BODY].chamfer_cm < 25 and 0.6 < errors[BODY].scale < 1.6


def test_errors_of_depth_count_at_true_size(subject: Subject, scan: Scan) -> None:
    """A belly and a back that are both pushed out by 2 cm, everywhere alike."""
    push = 0.02 / scan.unit_m
    thick = Oracle(
        np.where(scan.front == FRONT_EMPTY, scan.front, depth_of(length_of(scan.front) - push)),
        np.where(scan.back == BACK_EMPTY, scan.back, depth_of(length_of(scan.back) + push)))
    outcome = judged(subject, scan, thick)
    assert outcome is not None
    found, floor = (outcome.judged[name].errors for name in (FOUND, FLOOR))
    # Alignment makes up for the front, and the back takes it all; walls have less to err.
    assert 0.8 < found.p2s_cm < 3 and found.iou_percent < floor.iou_percent - 5


def test_scaling_about_the_camera_changes_no_error(scan: Scan) -> None:
    truth = Truth.of(scan)
    near, far = (truth.judge(Shape(scan.vertices * np.float32(factor), scan.faces)).errors
                 for factor in (0.5, 2.0))
    assert near.scale == pytest.approx(2, rel=1e-3) and far.scale == pytest.approx(0.5, rel=1e-3)
    assert near.p2s_cm == pytest.approx(far.p2s_cm, rel=0.02)
    assert near.chamfer_cm == pytest.approx(far.chamfer_cm, rel=0.02)
    assert near.normal_deg == pytest.approx(far.normal_deg, abs=0.1)


def test_who_is_nowhere_in_the_picture_cannot_be_aligned(scan: Scan) -> None:
    aside = Shape(scan.vertices + np.float32([3, 0, 0]), scan.faces)
    with pytest.raises(EvaluationError, match='covers no pixel'):
        Truth.of(scan).judge(aside)
    depth = np.full((4, 4), np.inf)
    depth[0] = 2
    assert depth_ratio(depth, np.full((4, 4), 3.0)) == 1.5


def test_pictures_show_the_person_before_something(scan: Scan) -> None:
    picture = picture_of(scan, np.random.default_rng(0))
    assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8
    inside, outside = scan.image[..., 3] == 255, scan.image[..., 3] == 0
    np.testing.assert_array_equal(picture[inside], scan.image[inside][:, :3])
    assert picture[outside].std() > 1


def test_people_that_networks_do_not_see_are_left_out(
        subject: Subject, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = Oracle(np.full((SIDE, SIDE), FRONT_EMPTY), np.full((SIDE, SIDE), BACK_EMPTY))
    assert judged(subject, scan, blind) is None
    monkeypatch.setattr(digitizer, 'draw_scans', lambda *_: iter([scan]))
    with pytest.raises(EvaluationError, match='none of 1 people could be digitized'):
        run_evaluation(blind, 1)


def errors(chamfer: float) -> Errors:
    return Errors(1, chamfer, 10, 0.2, 80, 1)


def test_means_and_how_they_spread() -> None:
    rng = np.random.default_rng(3)
    body = rng.uniform(3, 9, 300)
    people = [{FOUND: errors(value - 2), BODY: errors(value)} for value in body]
    report = summary(people)
    rows, gain = report['rows'], report['minus_fitted_body'][FOUND]
    assert rows[BODY]['chamfer_cm'] == pytest.approx(body.mean())
    assert rows[BODY]['chamfer_cm_spread'] == pytest.approx(
        body.std() / np.sqrt(len(body)), rel=0.15)
    # The same for everybody, however people differ.
    assert gain['chamfer_cm'] == pytest.approx(-2)
    assert gain['chamfer_cm_spread'] == pytest.approx(0, abs=1e-9)
    assert set(report['minus_fitted_body']) == {FOUND}


def test_the_report_and_its_pictures(
        tmp_path: Path, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digitizer, 'draw_scans', lambda *_: iter([scan]))
    report = run_evaluation(Oracle(scan.front, scan.back), 1, out=tmp_path)
    assert report['samples'] == 1 and report['refused'] == 0 and report['resolution'] == SIDE
    assert set(report['rows']) == {FOUND, CUT_OUT, FLOOR, BODY}
    assert report['minus_fitted_body'][FOUND]['chamfer_cm'] < 0
    assert {path.name for path in tmp_path.iterdir()} == {
        'report.json', 'best_median_worst.jpg', 'turntable_1.jpg'}
    page = cv2.imread(str(tmp_path / 'best_median_worst.jpg'))
    assert page.shape[0] == 3 * 384 and page.std() > 20


@pytest.mark.torch
def test_engines_are_opened_by_their_common_name(tmp_path: Path) -> None:
    pytest.importorskip('torch', reason='engines are exported by torch')
    from hmr_ros.networks.digitizer_2k2k import Digitizer, Variant
    from hmr_ros.training.digitizer_2k2k.export import export_engines
    export_engines(Digitizer(Variant(SIDE, 1 / 8)).eval(), tmp_path, 'tiny')
    networks = open_networks(str(tmp_path / 'tiny'))
    assert networks.resolution == SIDE
    normals, depth = networks.low(np.zeros((3, SIDE // 8, SIDE // 8), np.float32))
    assert normals.shape == (6, SIDE // 8, SIDE // 8) and depth.shape == (3, *normals.shape[1:])


def test_meshes_are_made_in_two_ways() -> None:
    with pytest.raises(EvaluationError, match="no meshes by 'marching'; there are direct and"):
        meshed_by('marching')
