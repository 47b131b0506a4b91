# SPDX-License-Identifier: Apache-2.0
"""Held-out scenes of crowds for detectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='scenes are composed by the training')
from hmr_ros.evaluation import detection_scenes  # noqa: E402
from hmr_ros.evaluation.box_matching import Band, curve, Found, Truth  # noqa: E402
from hmr_ros.evaluation.detection_scenes import held_out_scenes, HEIGHT, WIDTH  # noqa: E402
from hmr_ros.perception.learned_detection import (  # noqa: E402
    LearnedPersonDetector, LearnedSettings)
from hmr_ros.runtime import load_engine  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few people and places, for a test must not wait for hundreds."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(detection_scenes, '_PEOPLE', 6)
    monkeypatch.setattr(detection_scenes, '_BACKGROUNDS', 2)


def test_scenes_are_the_same_whatever_their_number() -> None:
    three, six = held_out_scenes(3), held_out_scenes(6)
    assert (len(three), len(six)) == (3, 6)
    for i in range(3):
        np.testing.assert_array_equal(three.images[i], six.images[i])
        np.testing.assert_array_equal(three.boxes[i], six.boxes[i])
        np.testing.assert_array_equal(three.ignored[i], six.ignored[i])
    assert sum(map(len, six.boxes)) > 6
    for image, boxes, ignored in zip(six.images, six.boxes, six.ignored):
        assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert boxes.dtype == np.float32 and len(boxes) == len(ignored)
        assert (boxes[:, :2] < boxes[:, 2:]).all() and (boxes >= 0).all()
        assert (boxes[:, 2:] <= (WIDTH, HEIGHT)).all()


def test_the_shipped_engine_finds_people_it_has_never_seen() -> None:
    scenes = held_out_scenes(16)
    detector = LearnedPersonDetector(load_engine('mgil_detector'), LearnedSettings(0.2))
    found = []
    for image in scenes.images:
        people = detector.detect(image)
        found.append(Found(np.reshape([one.box for one in people], (-1, 4)),
                           np.array([one.score for one in people])))
    truth = [Truth(boxes[~ignored], boxes[ignored])
             for boxes, ignored in zip(scenes.boxes, scenes.ignored)]
    assert curve(found, truth, Band(48, 200)).average_precision() > 40
