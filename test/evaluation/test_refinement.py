# SPDX-License-Identifier: Apache-2.0
"""Refining is judged by the truth: nothing is wrong with it, and bodies only move as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('torch', reason='the labels of training need torch')
pytest.importorskip('numba', reason='synthetic people need numba')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.evaluation import held_out, refinement  # noqa: E402
from hmr_ros.evaluation.mgil_contender import Contender  # noqa: E402
from hmr_ros.evaluation.refinement import (  # noqa: E402
    Case, cases, errors_of, found_by, noisy_labels, refined, rows_of)
from hmr_ros.evaluation.subject import Subject  # noqa: E402
from hmr_ros.perception import rotations  # noqa: E402
from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.training.mgil.people import SEEN  # noqa: E402
from hmr_ros.training.synthetic import CLEAN, CutoutStore, render_cutouts  # noqa: E402

pytestmark = pytest.mark.torch
BODY, COUNT = load_body(), 8


@pytest.fixture(scope='module')
def store() -> CutoutStore:
    return render_cutouts(BODY, COUNT, seed=6, size=160)


@pytest.fixture(scope='module')
def found(store: CutoutStore) -> list[Case]:
    return cases(Subject.of(load_engine('keypoint_guided'), BODY), store, 128)


def truth(store: CutoutStore, found: list[Case]) -> list[Case]:
    """The same people as if they had been recovered without any error."""
    people, rows = held_out.held_out_people(store, found[0].camera.width, CLEAN), []
    for index, case in enumerate(found):
        sample = people.sample(index, people.rng(index))
        pose = rotations.matrix_to_axis_angle(sample['rotmats'])
        rows.append(replace(case, person=replace(
            case.person, global_orient=pose[0], body_pose=pose[1:], betas=sample['betas'],
            transl=sample['transl'], joints3d=sample['joints3d'][:24])))
    return rows


def test_the_truth_has_no_errors(store: CutoutStore, found: list[Case]) -> None:
    for name, values in vars(errors_of(BODY, truth(store, found))).items():
        # Sensors and crops have pixels, labels and bodies do not.
        np.testing.assert_allclose(values, 0, atol=0.05, err_msg=name)


def test_labels_bring_bodies_nearer_and_poses_stay(found: list[Case]) -> None:
    assert len(found) == COUNT
    before, after = (errors_of(BODY, people) for people in (
        found, refined(BODY, found, noisy_labels(0.0))))
    assert after.reprojection_px.mean() < 0.9 * before.reprojection_px.mean()
    np.testing.assert_allclose(after.pa_mpjpe_mm, before.pa_mpjpe_mm, atol=1e-3)
    sizes = [case.size for case in found]
    np.testing.assert_allclose(after.reprojection_percent, 100 * after.reprojection_px / sizes)


def test_errors_are_of_what_is_seen(found: list[Case]) -> None:
    hidden = [replace(case, points=np.where(
        case.visibility[:, None] == SEEN, case.points, 1e4)) for case in found]
    np.testing.assert_array_equal(
        errors_of(BODY, hidden).reprojection_px, errors_of(BODY, found).reprojection_px)
    blind = [replace(found[0], visibility=0 * found[0].visibility), found[1]]
    assert np.isnan(errors_of(BODY, blind).reprojection_px).tolist() == [True, False]


def test_noise_is_a_share_of_the_person(found: list[Case]) -> None:
    off = [(noisy_labels(0.02)(case, np.random.default_rng(i)).keypoints - case.points)
           / case.size for i, case in enumerate(found)]
    assert np.nanstd(off) == pytest.approx(0.02, rel=0.15)
    assert np.isnan(off).all(axis=2).sum() == sum((case.visibility == 0).sum() for case in found)


def test_a_network_that_knows_the_labels_is_as_good_as_they_are(found: list[Case]) -> None:
    size, ratio = 64, 4
    case = found[0]
    centre = case.person.box.reshape(2, 2).mean(axis=0)
    bins = np.rint(ratio * ((case.points - centre) * size / (1.25 * case.size) + size / 2))
    certain = np.where(case.visibility == 0, 0, 12)[None, :, None]

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feeds['image'].shape == (1, 3, size, size)
        return {name: certain * (np.arange(ratio * size) == bins[None, :, axis:axis + 1])
                for axis, name in enumerate(('simcc_x', 'simcc_y'))}
    one = Contender('knows', '', run, size, ratio, 'max', (0, 0, 0), (1, 1, 1))
    rows = rows_of(BODY, [case], {'labels': noisy_labels(0.0), 'network': found_by(one)}, 128)
    assert [row['keypoints'] for row in rows] == ['none', 'labels', 'network']
    assert [row['refined'] for row in rows] == [0, 1, 1]
    assert rows[2]['reprojection_px'] == pytest.approx(rows[1]['reprojection_px'], abs=0.3)
    assert rows[2]['better_share'] == rows[1]['better_share'] == 1.0


def test_the_report_has_a_row_for_each_source_and_size(
        store: CutoutStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(held_out, 'held_out_store', lambda body, samples: store)
    report = refinement.run_evaluation(samples=COUNT)
    sources = ['none', *(f'labels, noise {percent} %' for percent in (0, 2, 4, 8))]
    assert [(row['pixels'], row['keypoints']) for row in report['rows']] == [
        (pixels, name) for pixels in (128, 64, 32) for name in sources]
    assert 'refined' in capsys.readouterr().out
