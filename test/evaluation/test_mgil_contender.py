# SPDX-License-Identifier: Apache-2.0
"""Pose networks are read as their manifest says; the flip test agrees with itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='weights files need torch')
from hmr_ros.evaluation.errors import EvaluationError  # noqa: E402
from hmr_ros.evaluation.mgil_contender import (  # noqa: E402
    Contender, contender, keypoints_in, look_flipped, look_once, LOOKS)
from hmr_ros.networks.mgil import build_pose, PoseVariant  # noqa: E402
from hmr_ros.perception.crops import CropTransform  # noqa: E402
from hmr_ros.perception.simcc import COCO_NAMES, MPII_NAMES  # noqa: E402
from hmr_ros.training.mgil.export import export_engine  # noqa: E402
from hmr_ros.training.mgil.weights import PoseFacts, save_weights  # noqa: E402

pytestmark = pytest.mark.torch
SIZE = 32


def dots(batch: np.ndarray, channel: int = 0) -> np.ndarray:
    """Columns and rows `(N, 2, 2)` of the two brightest pixels, the left one first."""
    flat = batch[:, channel].reshape(len(batch), -1)
    brightest = np.argsort(flat, axis=1)[:, -2:]
    columns, rows = brightest % SIZE, brightest // SIZE
    order = np.argsort(columns, axis=1)
    return np.stack([np.take_along_axis(one, order, 1) for one in (columns, rows)], axis=-1)


def watcher(split_ratio: int, **facts: object) -> Contender:
    """Sees the person's left side in the dot that is farther right, as of people who face it."""
    left = np.array([name.startswith('left') for name in COCO_NAMES], int)

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        bins = split_ratio * dots(feeds['image'])[:, left]
        one_hot = 20 * np.eye(split_ratio * SIZE)[bins]
        return {'simcc_x': one_hot[:, :, 0], 'simcc_y': one_hot[:, :, 1]}
    return Contender('watcher', '', run, SIZE, split_ratio, 'max', (0, 0, 0), (1, 1, 1), **facts)


def dotted(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    batch = np.zeros((4, 3, SIZE, SIZE), np.float32)
    for picture in batch:
        for column in rng.choice(np.arange(1, SIZE), 2, replace=False):
            picture[:, rng.integers(SIZE), column] = 1
    return batch


@pytest.mark.parametrize('split_ratio', [1, 2, 3])
@pytest.mark.parametrize('score_mode', ['max', 'min'])
def test_a_mirrored_look_says_the_same_of_what_is_seen_exactly(
        split_ratio: int, score_mode: str) -> None:
    one = replace(watcher(split_ratio), score_mode=score_mode)
    plain, flipped = look_once(one, dotted(1)), look_flipped(one, dotted(1))
    # The nose has no other side.
    np.testing.assert_allclose(flipped.x[:, 1:], plain.x[:, 1:], atol=1e-6)
    np.testing.assert_allclose(flipped.y[:, 1:], plain.y[:, 1:], atol=1e-6)


def test_the_shift_of_the_flip_test_is_the_engine_s_own() -> None:
    plain = look_once(watcher(3), dotted(2)).x[:, 1:].argmax(-1)
    # SimCC's program shifts by 1 where geometry demands 2, so half the peak is a bin too far.
    found = look_flipped(watcher(3, flip_shift=1), dotted(2)).x[:, 1:]
    beside = np.take_along_axis(found, plain[..., None] + 1, -1)[..., 0]
    np.testing.assert_allclose(beside, found.max(-1), rtol=1e-6)
    assert found.max() < 0.6


def test_keypoints_come_back_to_the_picture_in_the_order_of_the_channels() -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[20, 30], picture[25, 50] = (200, 0, 90), (200, 0, 90)
    one, crop = watcher(2), CropTransform(40.0, 30.0, SIZE, SIZE)
    seen: list[np.ndarray] = []

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append(feeds['image'])
        return one.run(feeds)
    for order, first in (('rgb', 200), ('bgr', 90)):
        points, scores = keypoints_in(
            replace(one, run=run, color_order=order), [picture], [crop])
        np.testing.assert_allclose(points[0, COCO_NAMES.index('left_hip')], (50, 25))
        np.testing.assert_allclose(points[0, COCO_NAMES.index('right_hip')], (30, 20))
        assert scores.shape == (1, 17) and scores.min() > 0.9
        assert seen[-1][0, 0].max() == pytest.approx(first / 255)


FACTS = PoseFacts.of(PoseVariant(height=SIZE, width=SIZE), color_order='bgr', score_mode='min',
                     labels='gaussian', flip_shift=1)


def test_engines_and_weights_say_how_they_are_read(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_pose(FACTS.variant).eval()
    path = save_weights({f'network.{name}': value for name, value in network.state_dict().items()},
                        tmp_path / 'weights.safetensors', FACTS)
    export_engine(network, None, tmp_path, 'mine', 'float32', FACTS)
    monkeypatch.setenv('HMR_ENGINES_DIR', str(tmp_path))
    batch = np.random.default_rng(0).normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
    found = []
    for name in (str(path), 'mine'):
        one = contender(name, COCO_NAMES)
        assert (one.size, one.split_ratio, one.color_order, one.score_mode, one.flip_shift) == (
            SIZE, 3, 'bgr', 'min', 1)
        found.append([LOOKS[look](one, batch).x for look in ('once', 'flip')])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    with pytest.raises(EvaluationError, match='17 keypoints; expected 16, right_ankle'):
        contender('mine', MPII_NAMES)


def test_other_networks_are_refused() -> None:
    with pytest.raises(EvaluationError, match='keypoint_guided; expected a pose engine of mgil'):
        contender('keypoint_guided', COCO_NAMES)
