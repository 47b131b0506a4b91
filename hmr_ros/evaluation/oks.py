# SPDX-License-Identifier: Apache-2.0
"""Object keypoint similarity and average precision, as COCO defines them."""

from __future__ import annotations

import numpy as np

#: COCO's constants of the twelve limb joints, in the order of `metrics.LIMB_JOINTS`.
LIMB_SIGMAS = np.array([79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
#: of all 17 keypoints in COCO's order: nose, eyes, ears, and the limb joints.
COCO_SIGMAS = np.concatenate([np.array([26, 25, 25, 35, 35]) / 1000, LIMB_SIGMAS])
THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: a person fills about this share of its box; labels without an outline get it as their area.
AREA_OF_BOX = 0.53
#: at which precision is read.
RECALLS = np.linspace(0, 1, 101)


def oks(
        predicted: np.ndarray, true: np.ndarray, area: np.ndarray, valid: np.ndarray,
        sigmas: np.ndarray = LIMB_SIGMAS) -> np.ndarray:
    """
    Object keypoint similarity `(N,)`, 0 to 1; NaN where no joint is valid.

    predicted, true (N, K, 2) pixels, area (N,) square pixels of the person, valid (N, K), sigmas
    (K,) constants of the joints, by default of the twelve limb joints.
    """
    distance = np.sum((np.asarray(predicted, np.float64) - true) ** 2, axis=-1)
    spread = 2 * np.asarray(area, np.float64)[:, None] * (2 * sigmas) ** 2
    similarity = np.where(valid, np.exp(-distance / (spread + np.spacing(1))), 0)
    count = np.sum(valid, axis=1)
    return np.divide(similarity.sum(axis=1), count, out=np.full(len(count), np.nan),
                     where=count > 0)


def average_precision(similarity: np.ndarray, confidence: np.ndarray) -> float:
    """
    Average precision in percent over THRESHOLDS; NaN without a person.

    One prediction per labelled person, matched to it: `similarity` (N,) their OKS, NaN for people
    who do not count, `confidence` (N,) what ranks them.
    """
    return float(np.mean(precisions(similarity, confidence)))


def precisions(similarity: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Average precision in percent `(10,)` at each of THRESHOLDS; see `average_precision`."""
    counted = ~np.isnan(similarity)
    similarity, confidence = similarity[counted], confidence[counted]
    if not len(similarity):
        return np.full(len(THRESHOLDS), np.nan)
    ranked = similarity[np.argsort(-confidence, kind='stable')]
    hits = np.cumsum(ranked[:, None] >= THRESHOLDS, axis=0)
    precision = hits / np.arange(1, len(ranked) + 1)[:, None]
    # Precision at a recall is the best that any higher recall has.
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = hits / len(ranked)
    found = [np.searchsorted(column, RECALLS, side='left') for column in recall.T]
    padded = np.concatenate([precision, np.zeros((1, len(THRESHOLDS)))])
    return np.array([100 * padded[rows, i].mean() for i, rows in enumerate(found)])
