# SPDX-License-Identifier: Apache-2.0
"""Evaluation on datasets, with people made here and an engine that knows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from hmr_ros.body import load_body
from hmr_ros.evaluation.datasets.people import LabelledPerson
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.on_dataset import evaluate_dataset, frame_number, Subject
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import CropTransform
from hmr_ros.perception.inverse_kinematics import forward_kinematics, twist_angles
from hmr_ros.perception.keypoint_guided import encode
from hmr_ros.perception.mesh_recovery import RecoverySettings
from hmr_ros.perception.rotations import axis_angle_to_matrix

FRAMES = 5
CAMERA = Camera(500.0, 500.0, 320.0, 240.0, 640, 480)
QUIET = Console(quiet=True)


@pytest.fixture(scope='module')
def people(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledPerson]:
    """One person who moves through five pictures, some metres in front of the camera."""
    folder = tmp_path_factory.mktemp('pictures')
    rng = np.random.default_rng(2)
    body = load_body()
    betas = np.zeros((FRAMES, 10), np.float32)
    rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], 1).astype(float)
    pose = 0.3 * rng.normal(size=(1, 24, 3)) + 0.1 * rng.normal(size=(FRAMES, 24, 3))
    pose[:, 0] = [np.pi, 0, 0]
    rotmats = axis_angle_to_matrix(pose)
    joints, _ = forward_kinematics(rotmats, rest)
    joints = joints - joints[:, :1] + [0.2, 0.1, 4.0]
    pixels = CAMERA.project(joints)
    rows = []
    for i in range(FRAMES):
        path = folder / f'image_{i:05d}.png'
        cv2.imwrite(str(path), np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8))
        box = np.concatenate([pixels[i].min(0) - 9, pixels[i].max(0) + 9])
        rows.append(LabelledPerson(
            path, None, 'walk', '0', box.astype(np.float32), pixels[i].astype(np.float32),
            np.ones(29, np.float32), joints[i].astype(np.float32), np.ones(29, np.float32),
            np.zeros((0, 3), np.float32), camera=CAMERA, rotmats=rotmats[i].astype(np.float32),
            betas=betas[i]))
    return rows


class Oracle:
    """Answers with the people's labels, moved by `noise`, in their order."""

    def __init__(self, people: list[LabelledPerson], noise: float = 0.0) -> None:
        joints = np.stack([person.joints3d for person in people]).astype(float)
        joints += noise * np.random.default_rng(1).normal(size=joints.shape)
        transforms = [CropTransform.from_box(person.box, 256) for person in people]
        uvd, scale = encode(joints, transforms, CAMERA)
        body = load_body()
        betas = np.stack([person.betas for person in people])
        rest = np.concatenate([body.rest_joints(betas), body.rest_leaves(betas)], axis=1)
        angles = twist_angles(np.stack([person.rotmats for person in people]), rest)
        count = len(people)
        cam = np.zeros((count, 3), np.float32)
        cam[:, 0] = scale
        self.outputs = {
            'uvd': np.concatenate([uvd, np.zeros((count, 67, 3), np.float32)], axis=1),
            'sigma': np.full((count, 96, 3), 0.1, np.float32), 'betas': betas, 'cam': cam,
            'phi': np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float32)}

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(feeds['image'])
        first = {name: array[:count] for name, array in self.outputs.items()}
        self.outputs = {name: array[count:] for name, array in self.outputs.items()}
        return first


def report_of(
        engine: Oracle, people: list[LabelledPerson], limit: int | None = None
        ) -> dict[str, object]:
    subject = Subject(engine, load_body(), RecoverySettings())
    return evaluate_dataset(subject, iter(people), limit, QUIET)


def test_the_truth_scores_full_marks(people: list[LabelledPerson]) -> None:
    report = report_of(Oracle(people), people)
    assert report['samples'] == FRAMES
    assert report['pck'] == {'limbs': 100} and report['oks_ap'] == 100
    for name in ('mpjpe_mm', 'pa_mpjpe_mm', 'acceleration_mm'):
        assert report[name] == pytest.approx(0, abs=0.5), name


def test_noise_costs_marks(people: list[LabelledPerson]) -> None:
    report = report_of(Oracle(people, noise=0.1), people)
    assert report['mpjpe_mm'] > report['pa_mpjpe_mm'] > 20
    assert report['pck']['limbs'] < 90 and report['oks_ap'] < 90
    assert report['acceleration_mm'] > 50


def test_labels_that_lack_are_not_judged(people: list[LabelledPerson]) -> None:
    flat = [replace(person, joints3d_weight=np.zeros(29, np.float32)) for person in people]
    report = report_of(Oracle(people), flat, limit=3)
    assert report['samples'] == 3 and report['pck'] == {'limbs': 100}
    assert not {'mpjpe_mm', 'pa_mpjpe_mm', 'acceleration_mm'} & set(report)
    no_hips = np.ones(29, np.float32)
    no_hips[[1, 2]] = 0
    report = report_of(Oracle(people), [replace(p, joints2d_weight=no_hips) for p in people])
    assert 'pck' not in report and report['oks_ap'] == 100


def test_gaps_break_the_acceleration(people: list[LabelledPerson]) -> None:
    kept = [people[i] for i in (0, 1, 3, 4)]
    assert 'acceleration_mm' not in report_of(Oracle(kept), kept)


def test_nobody_is_an_error() -> None:
    with pytest.raises(EvaluationError, match='nobody'):
        report_of(None, [])


def test_frame_numbers(people: list[LabelledPerson]) -> None:
    assert [frame_number(person) for person in people] == list(range(FRAMES))
    assert frame_number(replace(people[0], frame=7)) == 7
    assert frame_number(replace(people[0], file=Path('portrait.jpg'))) is None
