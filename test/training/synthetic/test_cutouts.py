# SPDX-License-Identifier: Apache-2.0
"""Rendered people: the same from the same seed, and where their labels say they are."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from capsule_body import capsule_body
import numpy as np
import pytest

from hmr_ros.training.synthetic import CutoutStore, SyntheticError, render_cutouts
from hmr_ros.training.synthetic.labels import project

TORSO = [0, 3, 6, 9]


def test_the_same_seed_gives_the_same_people(store: CutoutStore) -> None:
    again = render_cutouts(capsule_body(), 5, seed=3, size=160)
    for name in ('focal', 'rotmats', 'joints3d', 'rendered', 'outline'):
        np.testing.assert_array_equal(getattr(again, name), getattr(store, name)[:5])
    np.testing.assert_array_equal(again.pixels, store.pixels[:store.starts[5]])
    other = render_cutouts(capsule_body(), 2, seed=4, size=160)
    assert not np.array_equal(other.joints3d, store.joints3d[:2])


def test_body_parameters_give_the_stored_joints(store: CutoutStore) -> None:
    joints = capsule_body().pose_joints(store.rotmats, store.betas)[0] + store.transl[:, None]
    np.testing.assert_allclose(joints, store.joints3d[:, :24], atol=1e-5)


def test_joints_of_the_torso_lie_on_the_person(store: CutoutStore) -> None:
    pixels = np.round(project(store.joints3d, store.focal, store.centre)).astype(int)
    for i in range(len(store)):
        x0, y0, width, height = store.frames[i]
        for x, y in pixels[i, TORSO] - (x0, y0):
            assert 0 <= x < width and 0 <= y < height
            assert store.image(i)[y, x, 3] > 0


def test_windows_just_hold_the_person(store: CutoutStore) -> None:
    x, y, width, height = store.frames.T
    assert np.all(x >= 0) and np.all(y >= 0)
    assert np.all(x + width <= 160) and np.all(y + height <= 160)
    assert np.all(np.maximum(width, height) > 0.8 * 160)


def test_visible_keypoints_are_some_but_not_all(store: CutoutStore) -> None:
    assert 0.2 < store.rendered[:, 29:].mean() < 0.8
    assert store.rendered[:, :24].mean() > 0.5


def test_saved_and_loaded(store: CutoutStore, tmp_path: Path) -> None:
    store.save(tmp_path / 'people.npz')
    loaded = CutoutStore.load(tmp_path / 'people.npz')
    for field in fields(store):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(store, field.name))


def test_joined_stores_keep_their_people(store: CutoutStore) -> None:
    both = CutoutStore.join([store, store])
    assert len(both) == 24
    np.testing.assert_array_equal(both.image(15), store.image(3))


def test_a_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / 'foreign.npz', pixels=np.zeros(3))
    with pytest.raises(SyntheticError, match='foreign.npz.*starts'):
        CutoutStore.load(tmp_path / 'foreign.npz')


def test_no_people_asked_for_is_an_error() -> None:
    with pytest.raises(SyntheticError, match='count=0'):
        render_cutouts(capsule_body(), 0, seed=1)
