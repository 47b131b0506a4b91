# SPDX-License-Identifier: Apache-2.0
"""Synthetic scenes whose people and places no detector was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hmr_ros.body import load_body
from hmr_ros.evaluation.held_out import held_out_store, SEED
from hmr_ros.training.mgil.detector.data import sensed, SENSOR
from hmr_ros.training.mgil.detector.scenes import SceneComposer
from hmr_ros.training.synthetic.augment import Grain

HEIGHT, WIDTH = 480, 640
#: pixels that a person in the middle of a scene is tall.
SMALLEST, LARGEST = 24.0, 320.0
_PEOPLE, _BACKGROUNDS = 400, 100
_CAMERA = replace(SENSOR, coarsest=200)


@dataclass(frozen=True)
class HeldOutScenes:
    """
    N pictures and the people in each, B_i of picture i.

    images   N of (480, 640, 3) uint8 BGR
    boxes    N of (B_i, 4) float32 pixels x0, y0, x1, y1 of the whole person within the picture,
             hidden parts too
    ignored  N of (B_i,) bool, people of whom so little is seen that neither finding nor missing
             them counts
    """

    images: tuple[np.ndarray, ...]
    boxes: tuple[np.ndarray, ...]
    ignored: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.images)


def held_out_scenes(count: int) -> HeldOutScenes:
    """
    Compose `count` scenes; the first ones are the same whatever `count` is.

    People, kept in the user's cache folder, seeds and drawn backgrounds are others than those of
    any training; what a camera does to the pictures is drawn as in training.
    """
    composer = SceneComposer(
        held_out_store(load_body(), _PEOPLE), (HEIGHT, WIDTH), SEED, SMALLEST, LARGEST,
        _BACKGROUNDS)
    grain = Grain(np.random.default_rng([SEED, 49]))
    scenes = [composer.scene(index) for index in range(count)]
    images = tuple(
        np.ascontiguousarray(sensed(
            np.random.default_rng([SEED, 51, index]), scene.image, _CAMERA, grain)[..., ::-1])
        for index, scene in enumerate(scenes))
    return HeldOutScenes(images, tuple(scene.boxes for scene in scenes),
                         tuple(scene.ignored for scene in scenes))
