# SPDX-License-Identifier: Apache-2.0
"""A stand-in for an engine of mgil, which sees keypoints where it is told."""

from __future__ import annotations

import numpy as np

from hmr_ros.perception.crops import CropTransform
from hmr_ros.runtime import TensorSpec

WIDTH, HEIGHT, SIZE, RATIO = 320, 240, 64, 3
BOXES = np.float32([[120, 60, 200, 220], [10, 60, 90, 220]])
TRANSFORMS = [CropTransform.from_box(box, SIZE) for box in BOXES]
# A third of a crop's pixel, and half of that as rounding.
HALF_BIN_PX = 200 / SIZE / RATIO / 2


def some_points():
    """Pixels of the image `(2, 17, 2)` inside the two boxes."""
    share = np.random.default_rng(3).uniform(0, 1, (2, 17, 2))
    return BOXES[:, None, :2] + share * (BOXES[:, None, 2:] - BOXES[:, None, :2])


class PoseEngine:
    """Gives logits that peak at `points` of the people in BOXES, of height `peaks`."""

    name, backend, precision, sha256 = 'pose', 'onnxruntime', 'fp32', 'a' * 64
    reason, entry = 'it is a stand-in', None
    inputs = (TensorSpec('image', (-1, 3, SIZE, SIZE), 'float32'),)
    outputs = tuple(TensorSpec(name, (-1, 17, RATIO * SIZE), 'float32')
                    for name in ('simcc_x', 'simcc_y'))

    def __init__(self):
        self.points, self.peaks = some_points(), np.full((2, 17), 12.0)
        self.batches, self.closed, self.change = [], False, lambda outputs: outputs

    def run(self, feeds):
        count = len(feeds['image'])
        self.batches.append(count)
        bins = np.rint(RATIO * np.stack(
            [t.to_crop(points) for t, points in zip(TRANSFORMS[:count], self.points)]))
        return self.change({
            name: (self.peaks[:count, :, None] * (
                np.arange(RATIO * SIZE) == bins[..., axis:axis + 1])).astype(np.float32)
            for axis, name in enumerate(('simcc_x', 'simcc_y'))})

    def close(self):
        self.closed = True
