# SPDX-License-Identifier: Apache-2.0
"""Samples: labels agree with each other, with the crop and with the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from capsule_body import capsule_body
import cv2
import numpy as np
import pytest

from hmr_ros.training.synthetic import (
    CLEAN, CutoutStore, Recipe, SyntheticError, SyntheticPeople)
from hmr_ros.training.synthetic.labels import SWAP_96

SIZE = 128


@pytest.fixture(scope='module')
def people(store: CutoutStore) -> SyntheticPeople:
    return SyntheticPeople(store, SIZE, seed=1, backgrounds=6)


@pytest.fixture(scope='module')
def batch(people: SyntheticPeople) -> dict[str, np.ndarray]:
    return people.batch(people.rng(0), 60)


def test_same_seed_and_epoch_same_batch(
        store: CutoutStore, people: SyntheticPeople, batch: dict[str, np.ndarray]) -> None:
    again = SyntheticPeople(store, SIZE, seed=1, backgrounds=6)
    repeated = again.batch(again.rng(0), 60)
    for name, value in batch.items():
        np.testing.assert_array_equal(repeated[name], value, err_msg=name)
    assert not np.array_equal(people.batch(people.rng(1), 2)['image'], batch['image'][:2])


def test_2d_is_the_projection_of_3d_through_the_crop(batch: dict[str, np.ndarray]) -> None:
    points = np.concatenate([batch['joints3d'], batch['markers3d']], axis=1)
    focal, centre = batch['camera'][:, :1, None], batch['camera'][:, None, 1:]
    picture = points[..., :2] / points[..., 2:] * focal + centre
    side = batch['crop_side'][:, None, None]
    crop = (picture - batch['crop_centre'][:, None]) * SIZE / side + SIZE / 2
    np.testing.assert_allclose(crop, batch['keypoints2d'], atol=0.02)
    np.testing.assert_allclose(batch['uvd'][..., :2], crop / SIZE - 0.5, atol=2e-4)


def test_box_and_crop_follow_the_convention(batch: dict[str, np.ndarray]) -> None:
    box = batch['box']
    np.testing.assert_allclose(0.5 * (box[:, :2] + box[:, 2:]), batch['crop_centre'], atol=1e-3)
    np.testing.assert_allclose(
        1.25 * (box[:, 2:] - box[:, :2]).max(axis=1), batch['crop_side'], rtol=1e-5)


def test_scale_and_depths_give_the_skeleton_back(batch: dict[str, np.ndarray]) -> None:
    """Decode as the live path does: real camera, root depth from s, others from d."""
    side = batch['crop_side']
    depth = batch['camera'][:, 0] / (batch['camera_scale'] * side)
    depth = depth[:, None] + 2.2 * batch['uvd'][..., 2]
    pixels = batch['crop_centre'][:, None] + batch['uvd'][..., :2] * side[:, None, None]
    xy = (pixels - batch['camera'][:, None, 1:]) / batch['camera'][:, :1, None] * depth[..., None]
    decoded = np.concatenate([xy, depth[..., None]], axis=-1)
    np.testing.assert_allclose(decoded[:, :29], batch['joints3d'], atol=1e-3)


def test_parameters_give_the_joints_after_mirror_and_turn(batch: dict[str, np.ndarray]) -> None:
    body = capsule_body()
    joints = body.pose_joints(batch['rotmats'], batch['betas'])[0] + batch['transl'][:, None]
    np.testing.assert_allclose(joints, batch['joints3d'][:, :24], atol=0.025)


def test_weights_are_zero_exactly_outside(batch: dict[str, np.ndarray]) -> None:
    outside = np.abs(batch['uvd']).max(axis=-1) > 0.5
    np.testing.assert_array_equal(batch['uvd_weight'].max(axis=-1) == 0, outside)
    assert outside.any()


def test_visible_keypoints_lie_on_the_mask(batch: dict[str, np.ndarray]) -> None:
    for i in range(60):
        near = cv2.dilate(batch['mask'][i], np.ones((5, 5), np.uint8))
        for x, y in np.round(batch['keypoints2d'][i][batch['visible'][i] > 0]).astype(int):
            assert near[y, x] > 0


def test_mask_covers_the_torso_of_unhidden_people(store: CutoutStore) -> None:
    people = SyntheticPeople(store, SIZE, seed=2, recipe=CLEAN, backgrounds=2)
    for i in range(len(store)):
        sample = people.sample(i, people.rng(i))
        for x, y in np.round(sample['keypoints2d'][[0, 3, 6, 9]]).astype(int):
            assert sample['mask'][y, x] == 1


def test_a_flip_mirrors_picture_and_labels(store: CutoutStore) -> None:
    straight = SyntheticPeople(store, SIZE, seed=2, recipe=CLEAN, backgrounds=2)
    mirror = SyntheticPeople(
        store, SIZE, seed=2, recipe=replace(CLEAN, flip=1.0), backgrounds=2)
    for i in range(4):
        one, two = (p.sample(i, p.rng(i)) for p in (straight, mirror))
        back = two['keypoints2d'][SWAP_96] * [-1, 1] + [SIZE, 0]
        np.testing.assert_allclose(back, one['keypoints2d'], atol=0.02)
        # crop x -> S - x is pixel column j -> S - j
        assert (two['mask'][:, :0:-1] != one['mask'][:, 1:]).mean() < 0.01
        np.testing.assert_array_equal(two['visible'][SWAP_96][29:].sum() > 0, True)


def test_the_picture_shows_the_person_where_the_mask_says(store: CutoutStore) -> None:
    people = SyntheticPeople(store, SIZE, seed=2, recipe=CLEAN, backgrounds=2)
    sample = people.sample(0, people.rng(0))
    x0, y0, width, height = store.frames[0]
    shown = sample['image'][sample['mask'] > 0].astype(float).mean(axis=0)
    stored = store.image(0)[store.image(0)[..., 3] > 0][:, :3].astype(float).mean(axis=0)
    np.testing.assert_allclose(shown, stored, atol=4)


def test_photographs_of_a_folder_are_used(store: CutoutStore, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'red.png'), np.full((80, 120, 3), (0, 0, 255), np.uint8))
    people = SyntheticPeople(store, SIZE, recipe=replace(CLEAN, photo=1.0), backgrounds=1,
                             background_folder=tmp_path)
    sample = people.sample(1, people.rng(0))
    np.testing.assert_array_equal(sample['image'][0, 0], [255, 0, 0])


def test_an_empty_folder_is_refused_by_name(store: CutoutStore, tmp_path: Path) -> None:
    with pytest.raises(SyntheticError, match=str(tmp_path)):
        SyntheticPeople(store, SIZE, backgrounds=1, background_folder=tmp_path)


def test_truncated_people_end_in_black(store: CutoutStore) -> None:
    people = SyntheticPeople(
        store, SIZE, recipe=replace(CLEAN, truncate=1.0), backgrounds=2)
    black = 0
    for i in range(12):
        image = people.sample(i, people.rng(i))['image']
        edges = (image[0], image[-1], image[:, 0], image[:, -1])
        black += any(edge.max() == 0 for edge in edges)
    assert black >= 9


def test_recipe_defaults_are_chances() -> None:
    assert all(0 <= getattr(Recipe(), name) <= 1 for name in (
        'flip', 'turn', 'truncate', 'occlude', 'blur', 'coarsen', 'compress', 'grey', 'photo'))
