# SPDX-License-Identifier: Apache-2.0
"""Decoding of keypoints that are two classifications each, one over columns and one over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy as np

from hmr_ros.perception.crops import CropStyle, CropTransform, cut_unfiltered
from hmr_ros.perception.errors import PerceptionError

COCO_NAMES = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip', 'left_knee',
    'right_knee', 'left_ankle', 'right_ankle')
#: limbs, as rows of COCO_NAMES.
COCO_LIMBS = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12),
    (11, 12), (11, 13), (13, 15), (12, 14), (14, 16))
MPII_NAMES = (
    'right_ankle', 'right_knee', 'right_hip', 'left_hip', 'left_knee', 'left_ankle', 'pelvis',
    'thorax', 'upper_neck', 'head_top', 'right_wrist', 'right_elbow', 'right_shoulder',
    'left_shoulder', 'left_elbow', 'left_wrist')
#: the published networks were trained on crops without a filter against aliasing.
CROPS = CropStyle(CropTransform.from_box, cut_unfiltered)
SCORE_MODES = ('max', 'min')
AVERAGES = ('probabilities', 'logits')
#: a keypoint below this score says nothing about the person.
COUNTED_FROM = 0.02
_OUTPUTS = ('simcc_x', 'simcc_y')


@dataclass(frozen=True)
class Vectors:
    """
    Probabilities that sum to 1 along the last axis, float32.

    x  (N, K, k W)  of the columns' bins
    y  (N, K, k H)  of the rows' bins
    """

    x: np.ndarray
    y: np.ndarray


def mirrored_order(names: Sequence[str]) -> np.ndarray:
    """Row of each keypoint's mirror image, int `(K,)`: left and right change places."""
    swap = {'left': 'right', 'right': 'left'}
    mirrored = [
        f'{swap[side]}_{rest}' if side in swap else name
        for name, (side, _, rest) in ((name, name.partition('_')) for name in names)]
    return np.array([names.index(name) for name in mirrored])


def probabilities(outputs: Mapping[str, np.ndarray]) -> Vectors:
    """
    Softmax of the logits `simcc_x` (N, K, k W) and `simcc_y` (N, K, k H) of an engine.

    Raises PerceptionError when one is missing, or they are not of the same people and keypoints.
    """
    for name in _OUTPUTS:
        if name not in outputs or outputs[name].ndim != 3:
            raise PerceptionError(
                f'the engine has no output {name!r} of three axes; keypoints need '
                f'{" and ".join(_OUTPUTS)}. Choose an engine of the network mgil')
    x, y = (np.asarray(outputs[name], np.float32) for name in _OUTPUTS)
    if x.shape[:2] != y.shape[:2]:
        raise PerceptionError(
            f'simcc_x has shape {x.shape} and simcc_y {y.shape}; both must begin with the same '
            'people and keypoints')
    return Vectors(_softmax(x), _softmax(y))


def _softmax(logits: np.ndarray) -> np.ndarray:
    # A peak of 0 keeps exp in its range.
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def decode(
        vectors: Vectors, split_ratio: float, score_mode: str = 'max'
        ) -> tuple[np.ndarray, np.ndarray]:
    """
    Read keypoints, float32 `(N, K, 2)` in crop pixels, and their scores `(N, K)`, 0 to 1.

    split_ratio  bins per pixel, k of the network
    score_mode   which of the two peaks counts: max for networks that were trained with label
                 smoothing, min for Gaussian labels

    A keypoint lies on its bin's edge, argmax / k, as the targets of training do.
    """
    if score_mode not in SCORE_MODES:
        raise PerceptionError(
            f'score_mode is {score_mode!r}; allowed: {", ".join(SCORE_MODES)}')
    bins = np.stack([vectors.x.argmax(axis=-1), vectors.y.argmax(axis=-1)], axis=-1)
    peaks = vectors.x.max(axis=-1), vectors.y.max(axis=-1)
    scores = np.maximum(*peaks) if score_mode == 'max' else np.minimum(*peaks)
    return (bins / split_ratio).astype(np.float32), scores


def to_image(points: np.ndarray, transforms: Sequence[CropTransform]) -> np.ndarray:
    """Crop pixels `(N, K, 2)` of N crops to float32 pixels of the full image."""
    points = np.asarray(points, np.float64)
    if not transforms:
        return points.astype(np.float32)
    return np.stack([
        transform.to_image(row) for transform, row in zip(transforms, points)]).astype(np.float32)


def flip_shift_of(split_ratio: float) -> int:
    """Bins that a mirrored and reversed vector lags behind: k - 1, for bins lie on their edges."""
    return round(split_ratio - 1)


def with_mirrored(
        outputs: Mapping[str, np.ndarray], mirrored: Mapping[str, np.ndarray], order: np.ndarray,
        shift: int, average: str = 'probabilities') -> Vectors:
    """
    Average what an engine gives for crops and for the same crops with their columns reversed.

    order    row of each keypoint's mirror image, see `mirrored_order`
    shift    see `flip_shift_of`; SimCC's program always takes 1, mmpose 0
    average  probabilities for networks trained with label smoothing, logits for Gaussian labels
    """
    if average not in AVERAGES:
        raise PerceptionError(f'average is {average!r}; allowed: {", ".join(AVERAGES)}')
    if average == 'logits':
        x = outputs['simcc_x'] + _unmirrored(mirrored['simcc_x'], order, shift)
        y = outputs['simcc_y'] + mirrored['simcc_y'][:, order]
        return probabilities({'simcc_x': x / 2, 'simcc_y': y / 2})
    seen, turned = probabilities(outputs), probabilities(mirrored)
    return Vectors((seen.x + _unmirrored(turned.x, order, shift)) / 2,
                   (seen.y + turned.y[:, order]) / 2)


def _unmirrored(x: np.ndarray, order: np.ndarray, shift: int) -> np.ndarray:
    """Turn the vectors of columns back; the last `shift` bins, of which nothing is known, stay."""
    turned = x[:, order, ::-1].copy()
    if shift:
        turned[..., :-shift] = turned[..., shift:].copy()
    return turned


def person_scores(scores: np.ndarray, detections: np.ndarray) -> np.ndarray:
    """
    Scores of people `(N,)`: of their detections `(N,)`, times the mean of their keypoints' scores.

    Keypoints `(N, K)` that are hardly seen do not count; without any other the score is 0.
    """
    counted = scores > COUNTED_FROM
    total, count = np.sum(scores * counted, axis=-1), np.sum(counted, axis=-1)
    return np.asarray(detections) * total / np.maximum(count, 1)
