# SPDX-License-Identifier: Apache-2.0
"""What is measured of smoothing: lag, accelerations, and films through real smoothers."""

from __future__ import annotations

import numpy as np
import pytest

from hmr_ros.body import load_body
from hmr_ros.evaluation import smoothing
from hmr_ros.evaluation.prediction import Crops, Predictions
from hmr_ros.evaluation.real_motion import accelerations, compare, Moment
from hmr_ros.evaluation.sequences import Film, films
from hmr_ros.evaluation.subject import Subject
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import CropTransform
from hmr_ros.perception.learned_smoothing import LearnedSmoother
from hmr_ros.perception.smoothing import OneEuroSmoother
from hmr_ros.runtime import load_engine
from hmr_ros.training.synthetic import render_sequences

CAMERA = Camera(600.0, 600.0, 320.0, 240.0, 640, 480)
FRAMES = 24


def swinging(phase: float = 0.0, count: int = 40) -> np.ndarray:
    t = np.arange(count) + phase
    joints = np.zeros((count, 24, 3))
    joints[:, 1:, 0] = 0.3 * np.sin(0.35 * t)[:, None]
    return joints


@pytest.mark.parametrize('lag', [0.0, 0.4, 1.0, 2.3])
def test_lag_is_the_shift(lag: float) -> None:
    found = smoothing.lag_frames([swinging(-lag)], [swinging()])
    assert found == pytest.approx(lag, abs=0.1)


def film() -> Film:
    """A person who lifts an arm, seen with noise."""
    from scipy.spatial.transform import Rotation
    body, rng = load_body(), np.random.default_rng(0)
    turns = np.zeros((FRAMES, 24, 3))
    turns[:, 16, 2] = np.sin(0.2 * np.arange(FRAMES))
    betas = np.zeros((FRAMES, 10), np.float32)

    def joints_of(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        matrices = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix()
        matrices = matrices.reshape(FRAMES, 24, 3, 3).astype(np.float32)
        joints = body.pose_joints(matrices, betas)[0] + np.float32([0, 0, 4])
        return matrices, joints
    rotmats, joints = joints_of(turns + rng.normal(0, 0.1, turns.shape))
    transl = np.tile(np.float32([0, 0, 4]), (FRAMES, 1))
    found = Predictions(
        rotmats, betas, transl, joints, np.zeros((FRAMES, 24, 2)), np.zeros((FRAMES, 24, 2)),
        np.ones((FRAMES, 24)), np.zeros((FRAMES, 0), np.float32))
    crops = Crops(np.zeros((FRAMES, 8, 8, 3), np.uint8),
                  [CropTransform(100.0, 100.0, 80.0, 128)] * FRAMES, [CAMERA] * FRAMES)
    return Film(crops, found, joints_of(turns)[1])


def test_smoothing_is_steadier_and_later() -> None:
    one, body = film(), load_body()
    raw = smoothing.judge([one], None)
    calm = smoothing.judge([one], smoothing._one_euro_maker(body, 1.0))
    assert calm['acceleration_error_mm'] < 0.5 * raw['acceleration_error_mm']
    assert abs(raw['lag_ms']) < 10 and 20 < calm['lag_ms'] < 250
    np.testing.assert_array_equal(
        smoothing.smoothed_joints(one, None), one.predictions.joints3d)
    # What comes out is what the node would publish for these people.
    expected = OneEuroSmoother(body).smooth([smoothing.people_of(one)[0]], CAMERA, 0.0)[0]
    np.testing.assert_allclose(
        smoothing.smoothed_joints(one, lambda: OneEuroSmoother(body))[0], expected.joints3d)


def test_the_shipped_filter_halves_acceleration_errors_and_costs_no_accuracy() -> None:
    pytest.importorskip('onnxruntime', reason='the onnxruntime backend is not installed')
    body, temporal = load_body(), load_engine('body_filter')
    store = render_sequences(body, 4, 20, seed=6, size=128)
    seen = films(Subject.of(load_engine(), body), store, 20)
    raw = smoothing.judge(seen, None)
    calm = smoothing.judge(seen, lambda: LearnedSmoother(temporal, body))
    assert calm['acceleration_error_mm'] < 0.5 * raw['acceleration_error_mm']
    assert calm['mpjpe_mm'] < 1.02 * raw['mpjpe_mm']


def test_filters_of_equal_lag_lie_between_those_that_were_run() -> None:
    rows = {f'one_euro_{hertz:g}_hz': {
        'lag_ms': 100 / hertz, 'acceleration_mm': hertz, 'acceleration_error_mm': 2 * hertz,
        'mpjpe_mm': 50 + 1 / hertz} for hertz in smoothing.CUT_OFFS}
    found = smoothing.at_lag(rows, 100 / 1.0)
    assert found['acceleration_mm'] == pytest.approx(1.0)
    assert 1.0 < smoothing.at_lag(rows, 80.0)['acceleration_mm'] < 1.5


def test_real_accelerations_need_three_frames_in_a_row() -> None:
    people = smoothing.people_of(film())
    moments = [Moment(n / 15, CAMERA, [person] if n not in (5, 6) else [])
               for n, person in enumerate(people)]
    rows = accelerations(moments)['film']
    assert rows[:, 0].tolist() == [*range(1, 4), *range(8, FRAMES - 1)]
    report = compare(moments, {'per_frame': None, 'one_euro': lambda: OneEuroSmoother(load_body())})
    assert report['people_frames'] == len(rows)
    means = report['acceleration_mm']
    assert means['one_euro'] < 0.7 * means['per_frame']
