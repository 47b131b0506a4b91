# SPDX-License-Identifier: Apache-2.0
"""Whole pictures and clips."""

from __future__ import annotations

from capsule_body import capsule_body
import numpy as np
import pytest

from hmr_ros.training.synthetic import Scene, SyntheticError, render_scene, walk_clip

SIZE = (320, 180)


@pytest.fixture(scope='module')
def scene() -> Scene:
    return render_scene(capsule_body(), 4, seed=3, size=SIZE)


def test_the_seed_decides_the_picture(scene: Scene) -> None:
    again = render_scene(capsule_body(), 4, seed=3, size=SIZE)
    np.testing.assert_array_equal(again.image, scene.image)
    assert not np.array_equal(render_scene(capsule_body(), 4, 4, SIZE).image, scene.image)


def test_keypoints_are_the_projection_of_the_camera(scene: Scene) -> None:
    points = np.concatenate([scene.joints3d, scene.markers3d], axis=1)
    pixels = points[..., :2] / points[..., 2:] * scene.camera[:2] + scene.camera[2:]
    np.testing.assert_allclose(pixels, scene.keypoints2d, atol=0.01)


def test_boxes_hold_just_what_is_seen_of_each_person(scene: Scene) -> None:
    assert scene.image.shape == (180, 320, 3)
    for i, (x0, y0, x1, y1) in enumerate(scene.boxes.astype(int)):
        mask = scene.instances == i + 1
        assert mask[y0:y1, x0:x1].sum() == mask.sum()


def test_people_of_a_clip_walk_on() -> None:
    frames = list(walk_clip(capsule_body(), 2, 5, seed=1, size=SIZE))
    roots = np.stack([frame.joints3d[:, 0] for frame in frames])
    steps = np.linalg.norm(np.diff(roots, axis=0), axis=-1)
    assert len(frames) == 5 and steps.min() > 0.02 and steps.max() < 0.12
    np.testing.assert_array_equal(frames[0].betas, frames[4].betas)


def test_an_empty_scene_is_refused() -> None:
    with pytest.raises(SyntheticError, match='people=0'):
        render_scene(capsule_body(), 0, seed=1)
