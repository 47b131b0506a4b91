# SPDX-License-Identifier: Apache-2.0
"""The evaluation, with an engine that knows the truth and one that knows nothing."""

import json

import cv2
import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from hmr_ros.body import load_body
from hmr_ros.evaluation import held_out, keypoint_guided as evaluation, scores
from hmr_ros.evaluation.breakdowns import GROUPS
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.prediction import coarsened, predict
from hmr_ros.evaluation.real_people import read_labels
from hmr_ros.evaluation.sequences import steadiness
from hmr_ros.perception.mesh_recovery import RecoverySettings
from hmr_ros.training.synthetic import CLEAN, Recipe, render_cutouts, SyntheticPeople

COUNT = 6


@pytest.fixture(scope='module')
def body():
    return load_body()


@pytest.fixture(scope='module')
def store(body):
    return render_cutouts(body, COUNT, seed=5, size=96)


@pytest.fixture(scope='module')
def mean(body):
    return held_out.mean_pose(body, 100)


class FakeEngine:
    """Answers with the labels it was told, in order, or with zeros once it has none."""

    name, backend, precision, sha256 = 'fake', 'none', 'fp32', '0' * 64
    reason = 'it is a stand-in'

    def __init__(self, labels=()):
        self.answers = [self._answer(sample) for sample in labels]

    @staticmethod
    def _answer(sample):
        return {
            'uvd': sample['uvd'], 'sigma': np.full((96, 3), 0.1, np.float32),
            'phi': sample['phi'], 'betas': sample['betas'],
            'cam': np.float32([sample['camera_scale'], 0, 0])}

    def run(self, feeds):
        assert feeds['image'].shape[1:] == (3, 256, 256) and feeds['image'].dtype == np.float32
        count = len(feeds['image'])
        if not self.answers:
            nothing = {'uvd': np.zeros((96, 3)), 'phi': np.tile([1.0, 0], (23, 1)),
                       'betas': np.zeros(10), 'camera_scale': 0.5}
            rows = [self._answer(nothing)] * count
        else:
            rows, self.answers = self.answers[:count], self.answers[count:]
        return {name: np.stack([row[name] for row in rows]).astype(np.float32)
                for name in rows[0]}


def measured(engine, body, store, mean, recipe, sizes=(256,)):
    people = SyntheticPeople(store, 256, 3, recipe, backgrounds=4)
    if engine is None:
        samples = [people.sample(i, people.rng(i)) for i in range(len(people))]
        engine = FakeEngine(samples)
    subject = evaluation.Subject(engine, body, RecoverySettings(max_batch=4))
    with Progress(disable=True) as progress:
        task = progress.add_task('', total=1)
        return evaluation.measure(subject, people, mean, sizes, progress, task)


@pytest.mark.parametrize('recipe', [CLEAN, Recipe(flip=1, truncate=1, turn=1)])
def test_the_truth_scores_full_marks_and_beats_the_mean_pose(body, store, mean, recipe):
    by_size, baseline = measured(None, body, store, mean, recipe)
    truth, base = scores.summary(by_size[256]), scores.summary(baseline)
    assert truth['mpjpe_mm'] < 1 and truth['pa_mpjpe_mm'] < 1
    # A mirrored body keeps its shape coefficients, and the open body is not quite symmetric.
    assert truth['mpvpe_mm'] < 5
    assert truth['pa_mpvpe_mm'] < 5 and truth['oks_ap'] == 100
    for name, value in truth['pck'].items():
        assert value == 100, name
    for name in GROUPS:
        rows = scores.by_group(by_size[256], name)
        assert sum(row['samples'] for row in rows) == COUNT
        assert all(row['pck'] == 100 for row in rows)
    assert 100 < base['mpjpe_mm'] < 400 and 40 < base['pa_mpjpe_mm'] < base['mpjpe_mm']
    assert base['pck']['limbs'] < 60
    assert np.isnan(by_size[256].hits).any() == (recipe is not CLEAN)


def test_an_engine_without_a_clue_is_below_the_mean_pose(body, store, mean):
    by_size, baseline = measured(FakeEngine(), body, store, mean, CLEAN, (256, 32))
    assert set(by_size) == {256, 32}
    nothing, base = scores.summary(by_size[32]), scores.summary(baseline)
    assert nothing['pck']['keypoints_limbs'] < base['pck']['limbs']
    assert nothing['mpjpe_mm'] > base['mpjpe_mm']


def test_coarsened_crops_lose_detail_but_not_size():
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    assert coarsened(image, 64) is image
    coarse = coarsened(image, 8)
    assert coarse.shape == image.shape
    assert coarse.std() < 0.4 * image.std() and abs(coarse.mean() - image.mean()) < 3


def test_calibrated_confidence_lies_on_the_diagonal():
    rng = np.random.default_rng(0)
    confidence = rng.random((400, 12))
    hits = (rng.random((400, 12)) < confidence).astype(float)
    hits[:, 3] = np.nan
    rows = scores.reliability(confidence, hits)
    assert len(rows) == 8 and sum(row['joints'] for row in rows) == 400 * 11
    assert all(abs(row['confidence'] - row['right']) < 0.06 for row in rows)
    assert [row['confidence'] for row in rows] == sorted(row['confidence'] for row in rows)


def test_steadiness_of_known_movements():
    """Sheet rsc_net, check 12: 2 mm/frame^2 against a still body."""
    frames = np.arange(10.0)[:, None, None]
    moving = np.zeros((10, 24, 3))
    moving[:, 1:, 0] = 0.001 * frames[..., 0] ** 2
    still = np.zeros((10, 24, 3))
    found = steadiness([moving + 5.0], [still])
    assert found['acceleration_mm'] == pytest.approx(2 * 23 / 24)
    assert found['acceleration_error_mm'] == pytest.approx(2 * 23 / 24)
    assert found['true_acceleration_mm'] == 0
    one, two = steadiness([moving], [still]), steadiness([moving, moving], [still, still])
    assert one['acceleration_error_mm'] == two['acceleration_error_mm']
    # Where one sequence ends and the next begins, the reference sees a jump.
    assert one['acceleration_error_concatenated_mm'] == pytest.approx(2 * 23 / 24)
    assert two['acceleration_error_concatenated_mm'] > 5


def test_a_network_that_gives_nan_is_named(body, store):
    class Broken(FakeEngine):
        def run(self, feeds):
            outputs = super().run(feeds)
            outputs['phi'][0, 0, 0] = np.nan
            return outputs

    people = SyntheticPeople(store, 256, 3, CLEAN, backgrounds=4)
    crops = held_out.crops_of(held_out.draw_samples(people, np.arange(2)))
    with pytest.raises(EvaluationError, match="output 'phi' holds NaN"):
        predict(Broken(), body, RecoverySettings(), crops)


def test_report_has_its_keys_and_files(monkeypatch, tmp_path, store, mean):
    monkeypatch.setattr(held_out, 'held_out_store', lambda body, count: store)
    monkeypatch.setattr(held_out, 'mean_pose', lambda body: mean)
    monkeypatch.setattr(held_out, 'BACKGROUNDS', 3)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for name in ('messi5.jpg', 'basketball1.png'):
        cv2.imwrite(str(folder / name), np.full((480, 640, 3), 90, np.uint8))
    report = evaluation.run_evaluation(
        FakeEngine(), samples=COUNT, real=folder, out=tmp_path / 'out', console=Console(quiet=True))
    assert {'dataset', 'samples', 'mpjpe_mm', 'pa_mpjpe_mm', 'per_joint', 'by_resolution', 'pck',
            'machine', 'versions', 'commit'} <= set(report)
    assert {'mpjpe_mm', 'pa_mpjpe_mm'} <= set(report['mean_pose'])
    assert [row['pixels'] for row in report['by_resolution']] == [256, 64, 32]
    assert sum(row['joints'] for row in report['reliability']) <= COUNT * 12
    steady = report['sequences']
    assert steady['sequences'] == 1 and steady['frames'] == 32
    assert 0 < steady['true_acceleration_mm'] < 40
    real = report['real']
    assert real['missing_files'] and real['people'] == sum(
        person.file in ('messi5.jpg', 'basketball1.png') for person in read_labels())
    written = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert written['samples'] == COUNT and len(written['per_joint']) == 24
    for name in ('error_by_joint.png', 'pck.png', 'breakdowns.png', 'reliability.png',
                 'best_median_worst.jpg', 'real_people.jpg'):
        assert cv2.imread(str(tmp_path / 'out' / name)) is not None, name
