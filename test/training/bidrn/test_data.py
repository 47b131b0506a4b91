# SPDX-License-Identifier: Apache-2.0
"""Crops of people with hands and faces: labels agree with each other and with the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hmr_ros.body import load_whole_body
from hmr_ros.body.whole_body_joints import SUPERVISED, SUPERVISED_MIRROR
from hmr_ros.training.bidrn.data import (
    Batches, PART_MIRROR, POSE_MIRROR, share_within, to_tensors, training_loader,
    WholePeopleCrops)
from hmr_ros.training.bidrn.people import WholePeople
from hmr_ros.training.synthetic import CLEAN, Recipe, SyntheticError

pytestmark = pytest.mark.torch
WHOLE = load_whole_body()
SHAPE = (128, 96)
TIPS = np.array([3, 7, 11, 15, 19])


@pytest.fixture(scope='module')
def batch(whole_people: WholePeople) -> dict[str, np.ndarray]:
    people = WholePeopleCrops(whole_people, SHAPE, seed=1, backgrounds=4)
    return people.batch(people.rng(0), 50)


def test_shapes_and_kinds_are_what_the_trainer_reads(batch: dict[str, np.ndarray]) -> None:
    expected = {
        'image': (3, *SHAPE), 'pose': (53, 3), 'betas': (10,), 'expression': (10,),
        'joints3d': (137, 3), 'joints2d': (137, 2), 'inside': (137,), 'boxes': (3, 4),
        'box_known': (3,), 'transl': (3,)}
    tensors = to_tensors(batch)
    assert {name: tuple(value.shape[1:]) for name, value in tensors.items()} == expected
    kinds = {name: str(value.dtype) for name, value in tensors.items()}
    assert kinds.pop('image') == 'torch.uint8' and set(kinds.values()) == {'torch.float32'}


def test_2d_is_a_similar_image_of_the_projection(
        whole_people: WholePeople, batch: dict[str, np.ndarray]) -> None:
    """x / z and y / z map to the crop by one scale and one shift per sample."""
    rays = batch['joints3d'][..., :2] / batch['joints3d'][..., 2:]
    for ray, pixels in zip(rays.astype(np.float64), batch['joints2d']):
        centred, seen = ray - ray.mean(axis=0), pixels - pixels.mean(axis=0)
        scale = (centred * seen).sum() / (centred ** 2).sum()
        assert scale > 0
        np.testing.assert_allclose(centred * scale, seen, atol=0.02)


def test_parameters_give_the_joints_after_mirror_and_turn(batch: dict[str, np.ndarray]) -> None:
    _, joints = WHOLE.posed(
        batch['pose'], batch['betas'], batch['expression'], batch['transl'])
    # People of the source are symmetric to some millimetres only, which a mirror shows.
    error = np.linalg.norm(joints[:, SUPERVISED] - batch['joints3d'], axis=-1)
    assert error.max() < 6e-3 and np.median(error) < 1e-3


def test_boxes_hold_the_finger_tips_and_the_face(batch: dict[str, np.ndarray]) -> None:
    for part, rows in enumerate((25 + TIPS, 45 + TIPS, 69 + np.arange(51))):
        points, box = batch['joints2d'][:, rows], batch['boxes'][:, None, part]
        assert (points >= box[..., :2] - 0.15).all() and (points <= box[..., 2:] + 0.15).all()
    # Tight: a hand is never much longer than from the wrist to the farthest finger tip.
    length = np.linalg.norm(
        batch['joints2d'][:, 25 + TIPS] - batch['joints2d'][:, 12, None], axis=-1).max(axis=1)
    longest = (batch['boxes'][:, 0, 2:] - batch['boxes'][:, 0, :2]).max(axis=1)
    assert (longest < 2.2 * length + 6).all()


def test_inside_and_known_say_what_the_crop_shows(batch: dict[str, np.ndarray]) -> None:
    x, y = batch['joints2d'].transpose(2, 0, 1)
    within = (x >= 0) & (x < SHAPE[1]) & (y >= 0) & (y < SHAPE[0])
    np.testing.assert_array_equal(batch['inside'] > 0, within)
    assert 0.5 < within.mean() < 1
    assert 0 < batch['box_known'].mean() < 1
    boxes = np.float64([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    np.testing.assert_allclose(
        share_within(boxes, np.float64([0, 0, 10, 10])), [1, 0.5, 0], atol=1e-9)


def test_a_mirror_mirrors_picture_and_labels(whole_people: WholePeople) -> None:
    still, flipped = (
        WholePeopleCrops(whole_people, SHAPE, 2, replace(CLEAN, flip=share), backgrounds=2)
        for share in (0.0, 1.0))
    for i in range(4):
        one, two = (people.sample(i, people.rng(i)) for people in (still, flipped))
        back = two['joints2d'][SUPERVISED_MIRROR] * [-1, 1] + [SHAPE[1], 0]
        np.testing.assert_allclose(back, one['joints2d'], atol=0.02)
        boxes = two['boxes'][PART_MIRROR][:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [96, 0, 96, 0]
        np.testing.assert_allclose(boxes, one['boxes'], atol=0.02)
        np.testing.assert_allclose(
            two['pose'][POSE_MIRROR][1:] * [1, -1, -1], one['pose'][1:], atol=1e-6)
        np.testing.assert_array_equal(two['betas'], one['betas'])


def test_a_turn_turns_the_skeleton_with_the_picture(whole_people: WholePeople) -> None:
    recipe = replace(CLEAN, turn=1.0, turn_deg=30.0)
    people = WholePeopleCrops(whole_people, SHAPE, 2, recipe, backgrounds=2)
    sample = people.sample(0, people.rng(5))
    _, joints = WHOLE.posed(*(sample[name][None] for name in (
        'pose', 'betas', 'expression', 'transl')))
    np.testing.assert_allclose(joints[0, SUPERVISED], sample['joints3d'], atol=6e-3)
    assert np.abs(sample['pose'][0] - whole_people.pose[0, 0]).max() > 0.02


def test_the_person_fills_the_crop_as_the_sheet_says(whole_people: WholePeople) -> None:
    """Sheet, section 1: the box grows to w / h = 0.75 and then by 1.25 about its centre."""
    people = WholePeopleCrops(whole_people, (256, 192), 2, CLEAN, backgrounds=2)
    for i in range(len(whole_people)):
        pixels = people.sample(i, people.rng(i))
        hull = whole_people.outline[i]
        box = np.ptp(hull, axis=0)
        scale = 256 / (1.25 * max(box[1], box[0] / 0.75))
        spread = np.ptp(pixels['joints2d'], axis=0)
        own = whole_people.joints3d[i]
        projected = own[:, :2] / own[:, 2:] * whole_people.focal[i]
        np.testing.assert_allclose(spread, np.ptp(projected, axis=0) * scale, rtol=1e-3)


def test_batches_depend_on_seed_and_number_only(
        whole_people: WholePeople, tmp_path: Path) -> None:
    whole_people.save(tmp_path / 'people.npz')
    def batches(first: int) -> Batches:
        return Batches([tmp_path / 'people.npz'] * 2, (64, 48), 3, 7, Recipe(), first=first)
    one, later = iter(training_loader(batches(0), 0)), iter(training_loader(batches(1), 0))
    first, second = next(one), next(one)
    assert not (first['image'] == second['image']).all()
    again = next(later)
    for name, value in second.items():
        assert (value == again[name]).all(), name


def test_crops_wider_than_high_are_refused(whole_people: WholePeople) -> None:
    with pytest.raises(SyntheticError, match='crops of 96 x 128 pixels'):
        WholePeopleCrops(whole_people, (96, 128))
