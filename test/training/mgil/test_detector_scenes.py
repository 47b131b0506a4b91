# SPDX-License-Identifier: Apache-2.0
"""Scenes of crowds: boxes are of what is painted, and windows keep them on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('numba', reason='people are laid by compiled code')
pytest.importorskip('torch', reason='windows are a torch dataset')
from hmr_ros.body import load_body  # noqa: E402
from hmr_ros.training.errors import TrainingError  # noqa: E402
from hmr_ros.training.mgil.detector import scenes  # noqa: E402
from hmr_ros.training.mgil.detector.config import DetectorConfig  # noqa: E402
from hmr_ros.training.mgil.detector.data import (  # noqa: E402
    mirrored, PADDING, SceneWindows, window)
from hmr_ros.training.mgil.detector.pictures import gather, training_scenes  # noqa: E402
from hmr_ros.training.mgil.detector.scenes import extent, Scene, SceneComposer  # noqa: E402
from hmr_ros.training.synthetic import CutoutStore, render_cutouts  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope='module')
def store() -> CutoutStore:
    return render_cutouts(load_body(), 8, seed=4, size=96)


@pytest.fixture
def bare(store: CutoutStore, monkeypatch: pytest.MonkeyPatch) -> SceneComposer:
    """White people before black, and nothing else."""
    for name in ('_THING', '_GARMENT', '_SHADOWS', '_EMPTY'):
        monkeypatch.setattr(scenes, name, 0.0)
    monkeypatch.setattr(SceneComposer, '_furnish', lambda *_: None)
    monkeypatch.setattr(scenes, 'colour_table', lambda *_: np.full((256, 3), 255, np.float32))
    composer = SceneComposer(store, (96, 128), 1, 16, 60, 1)
    monkeypatch.setattr(
        composer._backdrops, 'place', lambda rng, shape: np.zeros((*shape, 3), np.uint8))
    return composer


def test_boxes_are_those_of_what_is_painted(
        bare: SceneComposer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, '_count', lambda rng: 1)
    found = [bare.scene(i) for i in range(30)]
    seen = [scene for scene in found if len(scene.boxes)]
    assert len(seen) > 20 and all(not scene.image.any() or len(scene.boxes) for scene in found)
    for scene in seen:
        # A pixel is the person's when more than half of it is covered.
        mask = (scene.image[..., 0] > 127).astype(np.uint8)
        np.testing.assert_array_equal(scene.boxes[0], extent(mask))
        assert scene.ignored[0] == (mask.sum() < 20)


def test_a_crowd_fills_its_boxes(bare: SceneComposer) -> None:
    crowded = 0
    for i in range(20):
        scene = bare.scene(i)
        mask, covered = scene.image[..., 0] > 127, np.zeros(scene.image.shape[:2], bool)
        for x0, y0, x1, y1 in scene.boxes.astype(int):
            covered[y0:y1, x0:x1] = True
            inside = mask[y0:y1, x0:x1]
            assert inside[0].any() and inside[-1].any()
            assert inside[:, 0].any() and inside[:, -1].any()
        assert not (mask & ~covered).any()
        crowded += len(scene.boxes) > 3
        assert (scene.boxes[:, :2] >= 0).all() and (scene.boxes[:, 2:] <= (128, 96)).all()
    assert crowded > 3


def test_people_behind_others_are_ignored(bare: SceneComposer) -> None:
    rng = np.random.default_rng(0)
    place = (np.float64([64, 90]), 60.0)
    stand = bare._stand(rng, *place)
    aside = bare._stand(rng, np.float64([20, 90]), 60.0)
    scene = bare._people(
        rng, np.zeros((96, 128, 3), np.uint8), np.zeros((96, 128), np.uint8), [place] * 3,
        [stand, stand, aside])
    np.testing.assert_array_equal(scene.boxes[0], scene.boxes[1])
    np.testing.assert_array_equal(scene.ignored, [True, False, False])


def test_scenes_depend_on_seed_and_number_only(store: CutoutStore) -> None:
    first, again = (SceneComposer(store, (64, 96), 3, 16, 60, 2) for _ in range(2))
    first.scene(0)
    one, other = first.scene(7), again.scene(7)
    for name in ('image', 'boxes', 'ignored'):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.image != again.scene(8).image).any()
    changed = SceneComposer(store, (64, 96), 4, 16, 60, 2).scene(7)
    assert (one.image != changed.image).any()


def test_there_are_scenes_without_anybody(store: CutoutStore) -> None:
    composer = SceneComposer(store, (64, 64), 1, 16, 60, 2)
    counts = [len(composer.scene(i).boxes) for i in range(60)]
    assert 0 < counts.count(0) < 30 and max(counts) > 4


@pytest.mark.parametrize('shape, heights', [((16, 64), (16, 60)), ((64, 64), (60, 16))])
def test_impossible_scenes_are_refused(
        store: CutoutStore, shape: tuple[int, int], heights: tuple[int, int]) -> None:
    with pytest.raises(TrainingError, match='expected a store'):
        SceneComposer(store, shape, 1, *heights, 1)


def test_windows_keep_boxes_on_people() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        image, size = np.zeros((120, 120, 3), np.uint8), 96
        x, y = rng.integers(10, 60, 2)
        wide, tall = rng.integers(16, 50, 2)
        image[y:y + tall, x:x + wide] = 255
        scene = Scene(image, np.float32([[x, y, x + wide, y + tall]]), np.zeros(1, bool))
        side, corner = int(rng.integers(60, 150)), rng.integers(-20, 40, 2)
        cut = window(scene, corner, side, size)
        if rng.random() < 0.5:
            cut = mirrored(cut)
        assert cut.image.shape == (size, size, 3)
        mask = (cut.image[..., 0] > 160).astype(np.uint8)
        if len(cut.boxes) and mask.any():
            np.testing.assert_allclose(cut.boxes[0], extent(mask), atol=1.01)


def test_windows_ignore_whom_they_hardly_hold() -> None:
    scene = Scene(np.full((100, 100, 3), 9, np.uint8), np.float32(
        [[0, 0, 20, 50], [70, 10, 90, 60], [50, 50, 54, 55], [10, 10, 30, 60]]),
        np.array([False, False, False, True]))
    cut = window(scene, np.array([16, -10]), 64, 64)
    np.testing.assert_array_equal(cut.boxes, np.float32(
        [[0, 10, 4, 60], [54, 20, 64, 64], [34, 60, 38, 64], [0, 20, 14, 64]]))
    np.testing.assert_array_equal(cut.ignored, [True, False, True, True])
    assert (cut.image[:10] == PADDING).all() and (cut.image[10:] == 9).all()


def test_batches_depend_on_seed_and_number_only(store: CutoutStore) -> None:
    composer = SceneComposer(store, (96, 96), 3, 16, 60, 2)
    pictures = gather(map(composer.scene, range(6)), 6)
    for i in range(6):
        np.testing.assert_array_equal(pictures.scene(i).boxes, composer.scene(i).boxes)
    config = DetectorConfig(('',), size=64, batch=5)
    batches = iter(SceneWindows(config, pictures))
    first, second = next(batches), next(batches)
    later = next(iter(SceneWindows(config, pictures, 1)))
    assert all(second[name].equal(later[name]) for name in second)
    assert not first['images'].equal(second['images'])
    assert first['images'].shape == (5, 3, 64, 64)
    assert first['rows'].tolist() == sorted(first['rows'].tolist())
    assert len(first['boxes']) == len(first['rows']) == len(first['ignored'])
    # A window of 64 pixels shows 40 to 102 of the scene: boxes lie inside.
    assert (first['boxes'] >= 0).all() and (first['boxes'] <= 64).all()


def test_scenes_are_kept_and_told_apart(store: CutoutStore, tmp_path: Path) -> None:
    store.save(tmp_path / 'people.npz')
    config = DetectorConfig((str(tmp_path / 'people.npz'),), scenes=3, scene_size=64, smallest=16,
                            largest=40, backgrounds=2, keep=str(tmp_path / 'scenes.npz'))
    first, again = training_scenes(config), training_scenes(config)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    with pytest.raises(TrainingError, match='were made from'):
        training_scenes(replace(config, largest=50))
    # Other networks and windows see the same scenes.
    training_scenes(replace(config, downsampling='spd', size=64, steps=9))
