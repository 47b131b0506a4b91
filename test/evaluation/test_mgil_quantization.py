# SPDX-License-Identifier: Apache-2.0
"""Pose networks before and after rounding are judged by the labels, in pixels of their crops."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch', reason='the pictures of training need torch')
pytest.importorskip('onnx', reason='quantization needs the onnx package')
pytest.importorskip('numba', reason='synthetic people need numba')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.evaluation import mgil  # noqa: E402
from hmr_ros.evaluation.mgil_contender import Contender  # noqa: E402
from hmr_ros.evaluation.mgil_quantization import missed, PosePeople  # noqa: E402
from hmr_ros.training.mgil.config import WIDE  # noqa: E402
from hmr_ros.training.mgil.pictures import compose  # noqa: E402
from hmr_ros.training.synthetic import render_cutouts, SyntheticPeople  # noqa: E402

pytestmark = pytest.mark.torch
COUNT, SIZE, RATIO = 5, 64, 4


@pytest.fixture(scope='module')
def people() -> PosePeople:
    body, side = load_body(), round(WIDE * mgil.SIZES[-1])
    crowd = SyntheticPeople(render_cutouts(body, COUNT, seed=5, size=96), side, 1, mgil.RECIPE,
                            backgrounds=4, margin=WIDE)
    one = Contender('none', '', lambda feeds: {}, SIZE, RATIO, 'max', (0, 0, 0), (1, 1, 1))
    return PosePeople(one, compose(crowd, ((i, crowd.rng(i)) for i in range(COUNT)), body))


def knows(people: PosePeople, off: float):
    """Return a network that gives the labels, `off` pixels to the right."""
    bins = np.rint(RATIO * (np.nan_to_num(people.true) + [off, 0]))

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feeds['image'].shape == (COUNT, 3, SIZE, SIZE)
        return {name: 9.0 * (np.arange(RATIO * SIZE) == bins[..., axis:axis + 1])
                for axis, name in enumerate(('simcc_x', 'simcc_y'))}
    return run


def test_who_knows_the_labels_misses_none(people: PosePeople) -> None:
    inside = np.where(np.all((people.true >= 0) & (people.true < SIZE - 3), -1)[..., None],
                      people.true, np.nan)
    assert np.isfinite(inside).any(axis=(1, 2)).all()
    for off, expected in ((0.0, 0.0), (0.75, 0.0), (2.0, 100.0)):
        np.testing.assert_array_equal(missed(people.points(knows(people, off)), inside), expected)


def test_the_summary_is_of_labelled_keypoints(people: PosePeople) -> None:
    found = people.summary(knows(people, 2.0))
    assert found['pck_1px_percent'] == 0 and found['mean_error_px'] > 1.9


def test_labels_fill_the_crop_from_every_distance(people: PosePeople) -> None:
    # The box's longer side is the crop's over 1.25; company and borders hide some keypoints.
    extent = np.nanmax(people.true, axis=1) - np.nanmin(people.true, axis=1)
    assert np.all(extent.max(axis=1) < SIZE) and np.median(extent.max(axis=1)) > SIZE / 2.5


def test_a_person_without_labels_misses_none() -> None:
    true = np.full((2, 3, 2), np.nan)
    true[1, 0] = 5.0
    np.testing.assert_allclose(missed(np.zeros((2, 3, 2)), true), [0, 100])
