# SPDX-License-Identifier: Apache-2.0
"""Rendered people with hands and faces: their labels and their faces' paint."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from hmr_ros.body import load_body, load_whole_body
from hmr_ros.body.whole_body_joints import SUPERVISED
from hmr_ros.training.bidrn.people import (
    as_smpl, part_vertices, render_whole_people, rest_face, study_whole, WholePeople)
from hmr_ros.training.synthetic import SyntheticError
from hmr_ros.training.synthetic.labels import project

WHOLE = load_whole_body()


def test_the_same_seed_gives_the_same_people(whole_people: WholePeople) -> None:
    again = render_whole_people(WHOLE, 3, seed=3, size=160)
    for field in fields(again):
        if field.name not in ('pixels', 'starts', 'size'):
            np.testing.assert_array_equal(
                getattr(again, field.name), getattr(whole_people, field.name)[:3])
    np.testing.assert_array_equal(again.pixels, whole_people.pixels[:again.starts[-1]])


def test_parameters_give_the_stored_joints(whole_people: WholePeople) -> None:
    store = whole_people
    _, joints = WHOLE.posed(store.pose, store.betas, store.expression, store.transl)
    np.testing.assert_allclose(joints[:, SUPERVISED], store.joints3d, atol=1e-5)


def test_hulls_hold_finger_tips_and_landmarks(whole_people: WholePeople) -> None:
    store = whole_people
    pixels = project(store.joints3d, store.focal, store.centre)
    low, high = store.parts.min(axis=2), store.parts.max(axis=2)
    tips = [3, 7, 11, 15, 19]
    for part, rows in enumerate((25 + np.array(tips), 45 + np.array(tips), 69 + np.arange(51))):
        points = pixels[:, rows]
        assert (points >= low[:, None, part] - 0.02).all()
        assert (points <= high[:, None, part] + 0.02).all()


def test_parts_are_hands_and_a_face() -> None:
    left, right, face = (WHOLE.v_template[rows] for rows in part_vertices(WHOLE))
    assert len(left) == len(right) and left[:, 0].min() > 0.5 > -0.5 > right[:, 0].max()
    assert (np.ptp(left, axis=0) < [0.24, 0.12, 0.24]).all()
    assert 0.10 < np.ptp(face[:, 1]) < 0.2 and abs(face[:, 0].mean()) < 1e-3
    assert np.ptp(face[:, 0]) < 0.2


def test_eyes_and_mouth_are_painted_where_the_landmarks_are() -> None:
    anatomy = study_whole(WHOLE)
    marks, edge = (points - WHOLE.joint_template[0] for points in rest_face(WHOLE))
    chin, mouth, nose, eye, brow, apart = anatomy.face[:6]
    assert chin < mouth < nose < eye < brow
    assert marks[40, 1] < mouth < marks[34, 1] and marks[20, 1] > eye > marks[24, 1]
    unit = eye - chin
    assert apart + anatomy.features[0] * unit == pytest.approx(marks[28, 0], abs=0.002)
    # Where lips meet is lip, what lies behind is not.
    assert anatomy.features[5] < marks[43:51, 2].min() + 0.004


def test_as_smpl_is_the_open_body() -> None:
    seen, body = as_smpl(WHOLE), load_body()
    np.testing.assert_allclose(seen.joint_template[:22], body.joint_template[:22], atol=1e-6)
    np.testing.assert_array_equal(seen.leaf_vertices, body.leaf_vertices)
    np.testing.assert_allclose(seen.weights.sum(axis=1), 1, atol=1e-5)


def test_saved_and_loaded(whole_people: WholePeople, tmp_path: Path) -> None:
    whole_people.save(tmp_path / 'people.npz')
    loaded = WholePeople.load(tmp_path / 'people.npz')
    for field in fields(loaded):
        np.testing.assert_array_equal(
            getattr(loaded, field.name), getattr(whole_people, field.name))


def test_other_bodies_and_sizes_are_refused() -> None:
    with pytest.raises(SyntheticError, match='from open_whole_body only, got mine'):
        render_whole_people(replace(WHOLE, name='mine'), 1, seed=0)
    with pytest.raises(SyntheticError, match='size=8'):
        render_whole_people(WHOLE, 1, seed=0, size=8)
