# SPDX-License-Identifier: Apache-2.0
"""COCO's keypoints of synthetic people: on the right side, at the right place, rightly hidden."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip('numba', reason='synthetic people need numba')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.perception.simcc import COCO_NAMES, mirrored_order  # noqa: E402
from hmr_ros.training.mgil.people import CocoLabels, HIDDEN, SEEN, UNLABELLED  # noqa: E402
from hmr_ros.training.synthetic import CLEAN, CutoutStore, Recipe, SyntheticPeople  # noqa: E402
from hmr_ros.training.synthetic import render_cutouts  # noqa: E402

BODY = load_body()


@pytest.fixture(scope='module')
def store() -> CutoutStore:
    return render_cutouts(BODY, 12, seed=5, size=128)


def test_mirrored_people_have_mirrored_labels(store: CutoutStore) -> None:
    """What the generator's own mirror gives is the other sides' keypoints, mirrored."""
    labels, size = CocoLabels(BODY), 96
    plain, turned = (SyntheticPeople(
        store, size, 1, Recipe(**{**vars(CLEAN), 'turn': 0, 'flip': flip}), margin=1.5,
        backgrounds=2) for flip in (0.0, 1.0))
    order = mirrored_order(COCO_NAMES)
    for i in range(len(store)):
        points, visible = labels.read(plain.sample(i, plain.rng(i)))
        others, hidden = labels.read(turned.sample(i, turned.rng(i)))
        others[:, 0] = size - others[order, 0]
        np.testing.assert_allclose(others[:, 0], points[:, 0], atol=0.05)
        np.testing.assert_allclose(others[order, 1], points[:, 1], atol=0.05)
        # A mirrored picture is rounded to other pixels, so a few at the outline may differ.
        assert np.mean(hidden[order] == visible) > 0.85


def test_visibility_follows_the_picture(store: CutoutStore) -> None:
    labels, size = CocoLabels(BODY), 128
    recipe = Recipe(**{**vars(CLEAN), 'truncate': 1.0})
    cut = SyntheticPeople(store, size, 2, recipe, margin=1.5, backgrounds=2)
    whole = SyntheticPeople(store, size, 2, CLEAN, margin=1.5, backgrounds=2)
    lost = 0
    for i in range(len(store)):
        sample = cut.sample(i, cut.rng(i))
        points, visible = labels.read(sample)
        x0, y0, x1, y1 = sample['shown']
        outside = ((points < (x0, y0)) | (points >= (x1, y1))).any(1)
        assert (visible[outside] == UNLABELLED).all() and (visible[5:][~outside[5:]] > 0).all()
        lost += outside.sum()
        _, visible = labels.read(whole.sample(i, whole.rng(i)))
        assert (visible[5:] != UNLABELLED).all() and (visible == SEEN).any()
    assert lost > len(store)
    behind = SyntheticPeople(store, size, 2, Recipe(**{**vars(CLEAN), 'occlude': 1.0}),
                             margin=1.5, backgrounds=2)
    hidden = [np.sum(labels.read(people.sample(i, people.rng(i)))[1] == HIDDEN)
              for people in (whole, behind) for i in range(len(store))]
    assert sum(hidden[len(store):]) > sum(hidden[:len(store)]) + len(store)


def test_the_far_side_of_a_head_is_not_labelled() -> None:
    """From behind only the ears are left; in profile the far eye and ear go."""
    labels = CocoLabels(BODY)
    for degrees, expected in ((0, COCO_NAMES[:5]), (180, ('left_ear', 'right_ear')),
                              (90, ('nose', 'right_eye', 'right_ear')),
                              (-90, ('nose', 'left_eye', 'left_ear'))):
        rotmats = np.tile(np.eye(3, dtype=np.float32), (24, 1, 1))
        # About the vertical, then the body's axes to the camera's: to its left is our right.
        turn = Rotation.from_euler('y', degrees, degrees=True).as_matrix()
        rotmats[0] = np.diag([1, -1, -1]) @ turn
        sample = {'rotmats': rotmats, 'betas': np.zeros(10, np.float32),
                  'transl': np.float32([0, 0, 4])}
        _, towards = labels._face(sample)
        shown = {name for name, seen in zip(COCO_NAMES, towards) if seen}
        assert shown == set(expected), degrees
