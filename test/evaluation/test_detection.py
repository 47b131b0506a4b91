# SPDX-License-Identifier: Apache-2.0
"""Detectors that are told what to find, and what the report says of them."""

import io
import json
from pathlib import Path
import sys
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from hmr_ros import cli
from hmr_ros.evaluation import detection
from hmr_ros.evaluation.box_matching import Truth
from hmr_ros.evaluation.detection import Contender, judged, Looks, rule, watch
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.pedestrians import LabelledClip, LabelledFrame
from hmr_ros.perception.person import PersonBox

sys.path.insert(0, str(Path(__file__).parents[1] / 'runtime'))
from mock_networks import write_detector  # noqa: E402

BOXES = np.float64([[10, 10, 26, 50], [60, 10, 76, 40], [100, 10, 140, 110]])
NOBODY = np.zeros((0, 4))


class Told:
    """Finds `boxes` in every image, of scores that fall, and keeps the images' mean levels."""

    def __init__(self, boxes):
        self.boxes, self.levels = boxes, []

    def detect(self, image):
        self.levels.append(round(float(image.mean()), -1))
        return [PersonBox(np.float32(box), 0.9 - 0.1 * i) for i, box in enumerate(self.boxes)]


@pytest.fixture
def clip(tmp_path):
    """Return a video of six frames, the k-th of level 40 k."""
    path = tmp_path / 'vtest.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (160, 120))
    for k in range(6):
        writer.write(np.full((120, 160, 3), 40 * k, np.uint8))
    writer.release()
    return path


def labelled(*numbers):
    return LabelledClip(
        'vtest.avi', tuple(LabelledFrame(BOXES, NOBODY, number) for number in numbers))


def test_each_looks_at_the_frames_it_needs(clip):
    single = Contender('single', Told(BOXES), 0.5)
    film = Contender('film', Told(BOXES[:1]), 0.5, Looks.AT_ALL_IN_A_ROW)
    truth = watch([single, film], clip, labelled(1, 4))
    assert single.detector.levels == [40, 160]
    assert film.detector.levels == [0, 40, 80, 120, 160, 200]
    assert [frame.number for frame in truth] == [1, 4]
    for one, count in ((single, 3), (film, 1)):
        assert len(one.times_ms) == len(one.detector.levels)
        assert [len(found.boxes) for found in one.found] == [count, count]


def test_a_clip_that_is_too_short_is_named(clip):
    with pytest.raises(EvaluationError, match='vtest.avi has 1 of 2 labelled frames'):
        watch([Contender('single', Told(BOXES), 0.5)], clip, labelled(1, 9))


def test_rows_tell_what_is_found_by_height_and_from_which_score():
    wrong = BOXES[:1] + 1000
    one = Contender('one', Told(np.concatenate([BOXES[:2], wrong, BOXES[2:]])), 0.75)
    image = np.zeros((120, 160, 3), np.uint8)
    one.found, one.times_ms = [one.look(image)], [3.0]
    report = judged([one], [Truth(BOXES, NOBODY)])
    row = report['methods']['one']
    assert report['people'] == 3 and row['p50_ms'] == row['p95_ms'] == 3
    # Scores are 0.9, 0.8, 0.7 (wrong) and 0.6.
    assert (row['found'], row['precision']) == (2, 1.0)
    assert row['recall_at_0.9'] == pytest.approx(2 / 3)
    np.testing.assert_allclose(row['curve']['precision'], [1, 1, 2 / 3, 3 / 4])
    assert [(band['people'], band['found']) for band in row['by_height']] == [
        (0, 0), (2, 2), (0, 0), (1, 0), (0, 0)]


def methods(found, precision, milliseconds, recall_found, recall_precision):
    """Report rows of both ways of HOG and of one engine."""
    hog = {'found': found, 'precision': precision, 'p50_ms': 100.0}
    engine = {'p50_ms': milliseconds,
              'curve': {'found': recall_found, 'precision': recall_precision}}
    return {'people': 200, 'methods': {
        detection.HOG_WHOLE: {**hog, 'p50_ms': 400.0}, detection.HOG_LIVE: hog,
        'mine': engine}}


@pytest.mark.parametrize('found, milliseconds, gain, ratio, holds', [
    ([90, 140, 180], 40.0, 1.4, 0.4, True), ([90, 120, 180], 40.0, 1.2, 0.4, False),
    ([90, 140, 180], 60.0, 1.4, 0.6, False), ([90, 130, 180], 50.0, 1.3, 0.5, True)])
def test_the_rule_asks_for_gain_at_the_same_precision_and_for_time(
        found, milliseconds, gain, ratio, holds):
    whole, live = rule(methods(100, 0.9, milliseconds, found, [1.0, 0.9, 0.8]))
    assert (whole['against'], live['against']) == ('hog, whole images', 'hog, live')
    assert live['found'] == found[1] and live['precision'] == 0.9
    assert live['gain'] == pytest.approx(gain) and live['most_gain'] == 2
    assert live['time_ratio'] == pytest.approx(ratio) and live['holds'] == holds
    assert whole['time_ratio'] == pytest.approx(ratio / 4)


def test_the_rule_is_printed_as_one_line_for_each_way_of_hog():
    stream = io.StringIO()
    console = Console(file=stream, width=300)
    detection.show({'rule': rule(methods(100, 0.9, 40.0, [140], [0.9]))}, console)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    for part in ('mine against hog, live, at precision 0.900', '140 people to 100, 1.40 times',
                 '0.40 of the time', 'the rule holds'):
        assert part in lines[1]


@pytest.fixture
def scenes(monkeypatch):
    """Stand in for rendered scenes: two pictures, one person of whom is ignored."""
    image = np.full((120, 160, 3), 100, np.uint8)
    module = ModuleType('hmr_ros.evaluation.detection_scenes')
    module.held_out_scenes = lambda count: SimpleNamespace(
        images=(image,) * count, boxes=(BOXES,) * count,
        ignored=(np.array([False, True, False]),) * count)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def hmr(*arguments):
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


def test_hog_is_judged_by_the_command(scenes, clip, monkeypatch, tmp_path):
    monkeypatch.setattr(detection, 'read_pedestrians', lambda: labelled(1, 4))
    result = hmr('evaluate', 'detector', '--method', 'hog', '--samples', '2', '--real',
                 str(clip.parent), '--out', str(tmp_path / 'out'),
                 '--json', str(tmp_path / 'r.json'))
    assert result.exit_code == 0 and 'hog, live' in result.output
    report = json.loads((tmp_path / 'r.json').read_text())
    assert list(report['synthetic']['methods']) == ['hog, whole images']
    assert (report['synthetic']['images'], report['synthetic']['people']) == (2, 4)
    assert list(report['real']['methods']) == ['hog, whole images', 'hog, live']
    assert (report['real']['images'], report['real']['people']) == (2, 6)
    assert report['rule'] == [] and report['machine']['cores']
    assert (tmp_path / 'out' / 'precision_recall.png').stat().st_size > 5000


def test_engines_are_judged_beside_hog_also_from_further_off(scenes, clip, monkeypatch):
    monkeypatch.setattr(detection, 'read_pedestrians', lambda: labelled(1))
    shapes = []

    class Engine(Told):
        def detect(self, image):
            shapes.append(image.shape)
            self.boxes = BOXES * image.shape[0] / 120
            return super().detect(image)
    monkeypatch.setattr(
        detection, 'learned', lambda name: Contender(name, Engine(BOXES), 0.5))
    report = detection.run_evaluation(['mine'], 1, clip.parent, console=Console(quiet=True))
    assert shapes == [(120, 160, 3), (120, 160, 3), (60, 80, 3), (30, 40, 3)]
    for part, people in (('synthetic', 2), ('real', 3), ('real_half', 3), ('real_quarter', 3)):
        assert report[part]['methods']['mine']['found'] == report[part]['people'] == people
        assert report[part]['methods']['mine']['precision'] == 1, 'ignored ones do not count'
    assert [row['method'] for row in report['rule']] == ['mine', 'mine']


@pytest.mark.parametrize('name, score', [('mock', 0.9), ('nobody', 0.3)])
def test_an_engine_file_is_a_contender(name, score, clip, tmp_path):
    pytest.importorskip('onnxruntime', reason='the engine is an ONNX file')
    path = write_detector(
        tmp_path / f'{name}.onnx', [[8, 8, 16, 24]], [score], size=(32, 64))
    one = detection.learned(str(path))
    found = one.look(np.full((32, 64, 3), 255, np.uint8))
    np.testing.assert_allclose(found.boxes, [[8, 8, 16, 24]], atol=1e-4)
    # Also those that it would not call people by itself, for the curve.
    assert (one.name, found.scores[0] >= one.score) == (name, name == 'mock')


def test_without_the_clip_the_report_has_no_such_part(scenes, monkeypatch, tmp_path):
    monkeypatch.setattr(detection, 'clip_at_hand', lambda: None)
    result = hmr('evaluate', 'detector', '--method', 'hog', '--samples', '1')
    assert result.exit_code == 0 and '--real' in result.output
    with pytest.raises(EvaluationError, match='vtest.avi is missing'):
        hmr('evaluate', 'detector', '--method', 'hog', '--samples', '1', '--real', str(tmp_path))


@pytest.mark.parametrize('options, words', [
    (('--method', 'svm'), "--method is 'svm'; allowed: learned, hog"),
    (('--method', 'hog', '--engine', 'mine'), 'takes no --engine')])
def test_options_that_do_not_fit_are_refused(options, words):
    with pytest.raises(cli.CommandError, match=words):
        hmr('evaluate', 'detector', *options)
