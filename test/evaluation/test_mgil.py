# SPDX-License-Identifier: Apache-2.0
"""AP and PCK of keypoints: full marks for the truth from any distance, less for noise."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch', reason='the pictures of training need torch')
pytest.importorskip('numba', reason='synthetic people need numba')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.evaluation import mgil  # noqa: E402
from hmr_ros.evaluation.mgil import compared, Findings, findings  # noqa: E402
from hmr_ros.evaluation.mgil_contender import Contender, contender as contender_of  # noqa: E402
from hmr_ros.evaluation.oks import COCO_SIGMAS, oks  # noqa: E402
from hmr_ros.perception import simcc  # noqa: E402
from hmr_ros.training.mgil.config import WIDE  # noqa: E402
from hmr_ros.training.mgil.pictures import compose, Pictures  # noqa: E402
from hmr_ros.training.synthetic import render_cutouts, SyntheticPeople  # noqa: E402

pytestmark = pytest.mark.torch
COUNT = 6


@pytest.fixture(scope='module')
def pictures() -> Pictures:
    body = load_body()
    people = SyntheticPeople(render_cutouts(body, COUNT, seed=5, size=96),
                             round(WIDE * mgil.SIZES[-1]), 1, mgil.RECIPE, backgrounds=4,
                             margin=WIDE)
    return compose(people, ((i, people.rng(i)) for i in range(COUNT)), body)


def contender(pictures: Pictures, noise: float, size: int = 64) -> Contender:
    """Knows the truth, up to bins and `noise` crop pixels."""
    rng, split_ratio = np.random.default_rng(0), 4
    # The crop is the middle of the picture, half its side times 1.25.
    side = pictures.images.shape[1]
    crop = (pictures.points - side / 2) * (size * WIDE / 1.25 / side) + size / 2

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feeds['image'].shape == (COUNT, 3, size, size)
        bins = np.round(split_ratio * (crop + noise * rng.normal(size=crop.shape)))
        bins = np.clip(bins, 0, split_ratio * size - 1).astype(int)
        one_hot = 9 * np.eye(split_ratio * size)[bins]
        return {'simcc_x': one_hot[:, :, 0], 'simcc_y': one_hot[:, :, 1]}

    return Contender(f'noise {noise}', '', run, size, split_ratio, 'max', (0, 0, 0), (1, 1, 1))


def test_truth_and_noise(pictures: Pictures) -> None:
    # Keypoints beyond the crop cannot be found by anybody.
    side = pictures.images.shape[1]
    inside = np.all(np.abs(pictures.points - side / 2) < 0.3 * side, axis=-1)
    pictures = Pictures(pictures.images, pictures.points, pictures.visibility * inside,
                        pictures.area)
    true, near, far = (
        findings(contender(pictures, noise), pictures).row() for noise in (0, 2.0, 8.0))
    assert true['ap'] > 95 and true['pck'] > 99, true
    assert true['ap'] > near['ap'] > far['ap'] and true['pck'] > near['pck'] > far['pck']


def test_coco_sigmas_are_the_library_s() -> None:
    params = pytest.importorskip('pycocotools.cocoeval', reason='the reference').Params('keypoints')
    np.testing.assert_allclose(COCO_SIGMAS, params.kpt_oks_sigmas)
    known = np.ones((1, 17), bool)
    point = np.zeros((1, 17, 2))
    moved = point + [2 * 0.026 * 10, 0]
    only = known & (np.arange(17) == 0)
    # One spread of the nose away, with an area of 100.
    assert oks(moved, point, np.array([100.0]), only, COCO_SIGMAS)[0] == pytest.approx(
        np.exp(-0.5))


def test_compared_people_by_people() -> None:
    rng = np.random.default_rng(1)
    better = Findings(rng.uniform(0.6, 1, (3, 300)), rng.random((3, 300)),
                      np.ones((3, 300, 17)))
    same = compared(better, better)
    assert same == dict.fromkeys(same, 0.0)
    worse = Findings(better.similarity * rng.uniform(0.6, 1, (3, 300)), better.score,
                     np.zeros((3, 300, 17)))
    change = compared(worse, better, 1)
    assert change['ap_change'] < -10 and 0.2 < change['ap_spread'] < 3
    assert change['pck_change'] == -100 and change['pck_spread'] == 0


def test_the_shipped_engine_finds_keypoints_of_people_it_has_never_seen() -> None:
    """A mean pose in the box has 22 %."""
    row = findings(contender_of('mgil', simcc.COCO_NAMES), mgil.held_out_pictures(40)).row()
    assert row['pck'] > 45 and row['ap50'] > 25
