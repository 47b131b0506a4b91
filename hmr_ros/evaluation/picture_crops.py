# SPDX-License-Identifier: Apache-2.0
"""Crops of the people in a user's own pictures, as the pipeline would cut them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.crops import crop_people, CropStyle
from hmr_ros.perception.detection import HogPersonDetector, HogSettings
from hmr_ros.perception.mesh_recovery import RecoverySettings
from hmr_ros.perception.video import source_kind, SourceKind, VideoReader

#: pictures that are looked at; of a video, one a second.
MOST_PICTURES = 200

#: normalised crops (N, 3, S, S) and their boxes (N, 4) to the inputs of a network.
Inputs = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]


def picture_feeds(
        source: str, settings: RecoverySettings, style: CropStyle, inputs: Inputs,
        color_order: str = 'rgb') -> Iterator[Mapping[str, np.ndarray]]:
    """
    Return the inputs of a network for the people of each picture of a video file or folder.

    color_order  of the crops: rgb or bgr

    Raises PerceptionError when the source cannot be read, EvaluationError when it is a camera or
    shows nobody.
    """
    detector, looked, found = HogPersonDetector(HogSettings(scan_frames=1)), 0, 0
    for image in _pictures(source):
        looked += 1
        boxes = np.array([person.box for person in detector.detect(image)]).reshape(-1, 4)
        # Crops come in RGB, so those in BGR are what a picture with its colours turned gives.
        batch, transforms = crop_people(
            image, 'bgr' if color_order == 'rgb' else 'rgb', boxes,
            settings.image_size, settings.mean, settings.std, style)
        if len(batch):
            found += len(batch)
            yield inputs(batch, boxes[[transform is not None for transform in transforms]])
    if not found:
        raise EvaluationError(
            f'nobody was found in {looked} pictures of {source!r}; give pictures of standing or '
            'walking people in full view, or leave them out')


def _pictures(source: str) -> Iterator[np.ndarray]:
    kind = source_kind(source)
    if kind.live:
        raise EvaluationError(
            f'{kind.value} {source!r} has no end; give a video file or a folder of pictures')
    reader = VideoReader(source)
    try:
        step = max(1, round(reader.frame_rate_hz)) if kind is SourceKind.FILE else 1
        for number, (image, _) in enumerate(reader):
            if number >= step * MOST_PICTURES:
                return
            if number % step == 0:
                yield image
    finally:
        reader.close()
