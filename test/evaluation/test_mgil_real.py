# SPDX-License-Identifier: Apache-2.0
"""Keypoints of the labelled people: points go there and back whatever the picture's size."""

from __future__ import annotations

from collections.abc import Mapping
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from hmr_ros.evaluation import mgil_real, real_people
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.mgil_contender import Contender, look_once

SIZE, RATIO = 64, 3
#: where the limbs are in the box, as shares of its sides.
LIMBS = np.random.default_rng(0).uniform(0.1, 0.9, (12, 2))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One picture with two people who have their limbs at the same places of their boxes."""
    cv2.imwrite(str(tmp_path / 'two.png'), np.full((400, 500, 3), 90, np.uint8))
    boxes = ([40, 30, 190, 330], [260, 60, 420, 380])
    people = [{'file': 'two.png', 'frame': 0, 'view': 'front', 'box': box,
               'joints': [[*(box[:2] + share * np.subtract(box[2:], box[:2])), int(i != 4)]
                          for i, share in enumerate(LIMBS)]} for box in boxes]
    labels = tmp_path / 'labels.json'
    labels.write_text(json.dumps({'people': people}), encoding='utf-8')
    read = real_people.read_labels
    monkeypatch.setattr(mgil_real, 'read_labels', lambda: read(labels))
    return tmp_path


def contender(shift: float) -> Contender:
    """Knows the limbs of anybody whose box is as that of the first one; `shift` in pixels."""
    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        side = SIZE / 1.25
        places = SIZE / 2 + (LIMBS - 0.5) * (side * 150 / 300, side) + shift
        logits = np.full((len(feeds['image']), 17, 2, RATIO * SIZE), -9, np.float32)
        bins = np.round(RATIO * places).astype(int)
        for joint, (x, y) in enumerate(bins, start=5):
            logits[:, joint, 0, x] = logits[:, joint, 1, y] = 9
        return {'simcc_x': logits[:, :, 0], 'simcc_y': logits[:, :, 1]}
    return Contender('known', '', run, SIZE, RATIO, 'max', (0.5,) * 3, (0.5,) * 3)


def test_who_knows_the_limbs_finds_them_from_all_distances(folder: Path) -> None:
    report = mgil_real.evaluate_real([contender(0)], folder, look_once)
    assert [row['pixels'] for row in report['rows']] == ['own', 48, 24]
    for row in report['rows']:
        assert (row['joints'], row['pck']) == (22, 100)
        assert np.isnan(row['per_joint']['left_wrist']), 'seen of nobody'


def test_who_is_off_by_half_a_crop_finds_nothing(folder: Path) -> None:
    report = mgil_real.evaluate_real([contender(0), contender(-12)], folder, look_once)
    assert [row['pck'] for row in report['rows']] == [100] * 3 + [0] * 3


def test_a_folder_without_the_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match='none of the labelled pictures'):
        mgil_real.evaluate_real([contender(0)], tmp_path, look_once)
