# SPDX-License-Identifier: Apache-2.0
"""Samples of labelled people: what is labelled lies where it is seen."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='training needs torch')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.evaluation.datasets import LabelledPerson  # noqa: E402
from hmr_ros.evaluation.metrics import LIMB_JOINTS  # noqa: E402
from hmr_ros.perception.camera import Camera  # noqa: E402
from hmr_ros.perception.inverse_kinematics import forward_kinematics  # noqa: E402
from hmr_ros.perception.rotations import axis_angle_to_matrix  # noqa: E402
from hmr_ros.perception.skeleton import PARENTS  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.keypoint_guided import labelled  # noqa: E402
from hmr_ros.training.keypoint_guided.config import (  # noqa: E402
    DatasetShare, read_config, StageConfig)
from hmr_ros.training.keypoint_guided.data import draw_sample, to_tensors  # noqa: E402
from hmr_ros.training.keypoint_guided.kinematics import naive_rotations  # noqa: E402
from hmr_ros.training.keypoint_guided.sheet_losses import skeleton  # noqa: E402
from hmr_ros.training.keypoint_guided.train import train  # noqa: E402

pytestmark = pytest.mark.torch
CAMERA = Camera(600.0, 600.0, 300.0, 260.0, 640, 480)
SIZE = 256


@pytest.fixture(scope='module')
def person(tmp_path_factory: pytest.TempPathFactory) -> LabelledPerson:
    """Somebody four metres away; joint k is a spot of brightness 5 k + 50 in the picture."""
    rng = np.random.default_rng(3)
    body = load_body()
    betas = rng.normal(size=(1, 10)).astype(np.float32)
    rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], axis=1)
    pose = 0.4 * rng.normal(size=(1, 24, 3))
    pose[:, 0] = [np.pi, 0.3, 0]
    rotmats = axis_angle_to_matrix(pose)
    joints, _ = forward_kinematics(rotmats, rest.astype(np.float64))
    joints = joints[0] - joints[0, :1] + [0.1, 0.0, 4.0]
    pixels = CAMERA.project(joints)
    picture = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    for k, point in enumerate(pixels):
        cv2.circle(picture, tuple(int(v) for v in np.round(point)), 4, (5 * k + 50,) * 3, -1)
    path = tmp_path_factory.mktemp('pictures') / 'person.png'
    cv2.imwrite(str(path), picture)
    box = np.concatenate([pixels.min(0) - 10, pixels.max(0) + 10]).astype(np.float32)
    return LabelledPerson(
        path, None, 'person', '0', box, pixels.astype(np.float32), np.ones(29, np.float32),
        joints.astype(np.float32), np.ones(29, np.float32), np.zeros((0, 3), np.float32),
        camera=CAMERA, rotmats=rotmats[0].astype(np.float32), betas=betas[0])


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave colours alone, so that spots can be recognised."""
    monkeypatch.setattr(labelled, 'spoil', lambda image, rng: image)


@pytest.mark.parametrize('seed', range(8))
def test_keypoints_lie_on_what_they_label(plain: None, person: LabelledPerson, seed: int) -> None:
    people = labelled.LabelledPeople([person], SIZE, load_body())
    sample = people.sample(0, np.random.default_rng(seed))
    change = labelled.draw_change(np.random.default_rng(seed))
    order = labelled.SWAP_29 if change.flipped else np.arange(29)
    apart = np.linalg.norm(person.joints2d[:, None] - person.joints2d, axis=-1) + 99 * np.eye(29)
    lonely = apart.min(axis=1)[order] > 9
    inside = sample['uvd_weight'][:29, 0] > 0
    pixels = np.round((sample['uvd'][:29, :2] + 0.5) * SIZE).astype(int)
    assert np.sum(lonely & inside) >= 4
    for k in np.flatnonzero(lonely & inside):
        x, y = np.clip(pixels[k], 0, SIZE - 1)
        assert abs(int(sample['image'][y, x, 0]) - (5 * order[k] + 50)) < 15, k


@pytest.mark.parametrize('seed', range(4))
def test_labels_make_the_same_body_in_the_changed_picture(
        person: LabelledPerson, seed: int) -> None:
    """Back-projected joints keep their bones, and twists and rotations belong together."""
    source = labelled.LabelledPeople([person], SIZE, load_body())
    batch = to_tensors([draw_sample(source, np.random.default_rng(seed))])
    points = skeleton(batch['uvd'][:, :29], batch['camera_scale'], batch)
    order = labelled.SWAP_29 if labelled.draw_change(np.random.default_rng(seed)).flipped \
        else np.arange(29)
    bones = np.linalg.norm(points[0, 1:].numpy() - points[0, PARENTS[1:]].numpy(), axis=-1)
    true = person.joints3d[order]
    np.testing.assert_allclose(
        bones, np.linalg.norm(true[1:] - true[PARENTS[1:]], axis=-1), atol=2e-3)
    body, betas = load_body(), batch['betas'].numpy()
    rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], axis=1)
    found = naive_rotations(points, torch.from_numpy(rest), batch['phi'])
    # The open body is not quite symmetric, so a mirrored body is not quite a posed one.
    torch.testing.assert_close(found, batch['rotmats'], atol=0.08, rtol=0)
    assert batch['pose_known'] == 1 and batch['camera_known'] == 1
    assert (batch['uvd_weight'][0, 29:] > 0).any()


def test_only_what_is_labelled_counts(person: LabelledPerson) -> None:
    flat = replace(person, joints3d_weight=np.zeros(29, np.float32), camera=None,
                   joints3d=np.zeros((29, 3), np.float32), rotmats=None, betas=None,
                   joints2d_weight=np.float32([k in (16, 20) for k in range(29)]))
    source = labelled.LabelledPeople([flat], SIZE, load_body())
    for seed in range(6):
        batch = to_tensors([draw_sample(source, np.random.default_rng(seed))])
        assert batch['pose_known'] == 0 and batch['camera_known'] == 0
        weight = batch['uvd_weight'][0]
        assert not weight[:, 2].any() and not weight[29:].any()
        assert set(torch.nonzero(weight[:, 0]).flatten().tolist()) <= {16, 17, 20, 21}
        assert all(torch.isfinite(value).all() for value in batch.values())


def test_keypoints_of_coco_follow_the_picture(plain: None, person: LabelledPerson) -> None:
    """The 12 limb rows are given as COCO's own; they must land where our joints do."""
    native = np.zeros((17, 3), np.float32)
    native[5:, :2], native[5:, 2] = person.joints2d[LIMB_JOINTS], 2
    people = [labelled.LabelledPeople([one], SIZE, None)
              for one in (person, replace(person, native2d=native))]
    for seed in range(6):
        ours, theirs = (one.sample(0, np.random.default_rng(seed))['coco'] for one in people)
        np.testing.assert_allclose(ours * ours[:, 2:], theirs * ours[:, 2:], atol=1e-5)
        assert ours[:, 2].sum() > 3


def coco_folder(folder: Path, picture: np.ndarray) -> Path:
    """One person in COCO's own format."""
    (folder / 'annotations').mkdir()
    (folder / 'train2017').mkdir()
    cv2.imwrite(str(folder / 'train2017' / '1.jpg'), picture)
    keypoints = np.random.default_rng(0).integers(20, 100, (17, 3))
    keypoints[:, 2] = 2
    (folder / 'annotations' / 'person_keypoints_train2017.json').write_text(json.dumps({
        'images': [{'id': 1, 'file_name': '1.jpg', 'width': 128, 'height': 128}],
        'annotations': [{
            'id': 5, 'image_id': 1, 'category_id': 1, 'iscrowd': 0, 'num_keypoints': 17,
            'bbox': [10, 10, 100, 100], 'area': 5000, 'keypoints': keypoints.ravel().tolist()}],
        'categories': [{'id': 1, 'name': 'person'}]}))
    return folder


def test_a_stage_trains_on_a_dataset(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path, np.full((128, 128, 3), 90, np.uint8))
    config = StageConfig((), datasets=(DatasetShare('coco', str(folder), 1.0),), size=64, batch=2,
                         steps=2)
    weights = train(config, tmp_path / 'out', workers=0)
    assert weights.is_file()


@pytest.mark.parametrize('text, message', [
    ('stores: []\n', 'sum to 0'),
    ('stores: [a.npz]\ndatasets: [{name: coco, folder: x, share: 1.5}]\n', 'sum to 1.5'),
    ('stores: [a.npz]\ndatasets: [{name: coco, folder: x, share: -1}]\n', 'positive'),
    ('stores: [a.npz]\ndatasets: [{name: coco}]\n', 'expected name, folder, share'),
    ('stores: [a.npz]\nbody: SMPL_NEUTRAL.pkl\n', 'SMPL_NEUTRAL')])
def test_impossible_mixtures_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / 'stage.yaml').write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_config(tmp_path / 'stage.yaml')


def test_mixture_is_read(tmp_path: Path) -> None:
    (tmp_path / 'stage.yaml').write_text(
        'stores: [a.npz]\ndatasets: [{name: coco, folder: /coco, share: 0.4}]\n')
    config = read_config(tmp_path / 'stage.yaml')
    assert config.datasets == (DatasetShare('coco', '/coco', 0.4, 'train'),)
