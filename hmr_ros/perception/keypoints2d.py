# SPDX-License-Identifier: Apache-2.0
"""2D keypoints of all people of a frame, by an engine of mgil."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from hmr_ros.perception import simcc
from hmr_ros.perception.crop_reading import (
    certainty_of, CropReader, CropSettings, DescribedNetwork, Outputs, Placed)
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.person import PersonBox, PersonKeypoints

#: how the crops of an engine for the other order are asked for.
_TURNED = {'rgb': 'bgr', 'bgr': 'rgb'}
_OUTPUTS = ('simcc_x', 'simcc_y')


@dataclass(frozen=True)
class KeypointSettings(CropSettings):
    """
    How crops are made and outputs are read; all but the most people come with the engine.

    mean, std    per channel of the crop, in its order
    color_order  of the channels of the crop: rgb or bgr
    score_mode   see `simcc.decode`
    top_score    peak that means a certain keypoint: confidences are shares of it, 1 at most
    """

    image_size: int = 64
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    color_order: str = 'rgb'
    score_mode: str = 'max'
    top_score: float = 1.0


def settings_of(
        engine: DescribedNetwork, max_people: int = 32,
        score_mode: str = 'auto') -> KeypointSettings:
    """
    Return the settings that an engine asks for by its tensors and its manifest entry.

    score_mode  auto: the engine's own

    An engine without an entry gets crops in RGB with the mean and deviation of ImageNet, and the
    higher peak is the score. Raises PerceptionError when it is no engine for COCO's keypoints in
    square crops.
    """
    size = _image_size(engine)
    shapes = {tensor.name: tuple(tensor.shape) for tensor in engine.outputs}
    _check_shapes(engine.name, {name: shapes.get(name, ()) for name in _OUTPUTS})
    facts = getattr(engine, 'entry', None)
    color_order = getattr(facts, 'color_order', 'rgb')
    own_mode = getattr(facts, 'score_mode', '') or KeypointSettings.score_mode
    for fact, value, allowed in (('color_order', color_order, tuple(_TURNED)),
                                 ('score_mode', own_mode, simcc.SCORE_MODES)):
        if value not in allowed:
            raise PerceptionError(
                f'engine {engine.name!r} says {fact} {value!r}; expected {" or ".join(allowed)}. '
                'Write one of these into its manifest entry')
    return KeypointSettings(
        size, *((facts.mean, facts.std) if facts else ()), max_people=max_people,
        color_order=color_order, score_mode=own_mode if score_mode == 'auto' else score_mode,
        top_score=getattr(facts, 'top_score', KeypointSettings.top_score))


def _image_size(engine: DescribedNetwork) -> int:
    shapes = {tensor.name: tuple(tensor.shape) for tensor in engine.inputs}
    image = shapes.get('image', ())
    if len(shapes) != 1 or len(image) != 4 or image[1] != 3 or image[2] != image[3]:
        raise PerceptionError(
            f'engine {engine.name!r} has the inputs {shapes}; expected image (N, 3, S, S) alone. '
            'Choose an engine of the network mgil for square crops')
    return image[3]


def _check_shapes(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise PerceptionError unless both are of COCO's keypoints, with as many columns as rows."""
    x, y = (shapes[output] for output in _OUTPUTS)
    if len(x) != 3 or x[1:] != y[1:] or x[1] != len(simcc.COCO_NAMES) or x[2] < 1:
        raise PerceptionError(
            f'engine {name!r} has the outputs simcc_x {x} and simcc_y {y}; expected '
            f'(N, {len(simcc.COCO_NAMES)}, bins) of both, the keypoints of COCO. Choose an engine '
            'of the network mgil that was trained on them')


class KeypointFinder(CropReader[PersonKeypoints]):
    """Finds COCO's 17 keypoints of all people of a frame by one engine."""

    style = simcc.CROPS
    _settings: KeypointSettings

    def __init__(self, engine: DescribedNetwork, settings: KeypointSettings | None = None) -> None:
        """`settings` None: see `settings_of`, which says what is raised, too."""
        super().__init__(engine, settings or settings_of(engine))

    def find(
            self, image: np.ndarray, color_order: str, boxes: Sequence[PersonBox],
            min_score: float = 0.0) -> list[PersonKeypoints]:
        """
        Find the keypoints of the people in `boxes`.

        image      uint8 `(H, W, 3)` in `color_order` 'rgb' or 'bgr', or `(H, W)` for 'gray'
        min_score  keypoints of a lower confidence are not found: NaN

        People keep the order of their boxes. Raises PerceptionError for an image or an engine that
        cannot be used, and passes on the engine's own error.
        """
        if self._settings.color_order == 'bgr':
            color_order = _TURNED.get(color_order, color_order)
        return self._read_frame(
            image, color_order, boxes,
            lambda outputs, used: self._people(outputs, used, min_score))

    def _check(self, outputs: Outputs) -> None:
        _check_shapes(
            self._engine.name,
            {name: outputs[name].shape if name in outputs else () for name in _OUTPUTS})

    def _people(
            self, outputs: Outputs, used: Placed, min_score: float) -> list[PersonKeypoints]:
        vectors = simcc.probabilities(outputs)
        points, confidence = simcc.decode(
            vectors, vectors.x.shape[2] / self._settings.image_size, self._settings.score_mode)
        confidence = np.minimum(confidence / self._settings.top_score, 1)
        points = simcc.to_image(points, [transform for _, transform in used])
        points[confidence < min_score] = np.nan
        scores = simcc.person_scores(
            confidence, np.array([certainty_of(box) for box, _ in used]))
        return [
            PersonKeypoints(
                box.track_id, float(scores[i]), np.asarray(box.box, np.float32), points[i],
                confidence[i])
            for i, (box, _) in enumerate(used)]
