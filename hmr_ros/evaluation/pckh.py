# SPDX-License-Identifier: Apache-2.0
"""PCKh of MPII's 16 keypoints: hits as a share of the head's size (mgil sheet, section 4)."""

from __future__ import annotations

import numpy as np

from hmr_ros.evaluation.metrics import mean_percent, pck_hits
from hmr_ros.perception.simcc import MPII_NAMES

#: of the head's size.
THRESHOLD = 0.5
#: the head's size is this much of the diagonal of its box.
_OF_DIAGONAL = 0.6
#: what tables show; the mean leaves out the two points on the spine.
GROUPS = ('shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle')
_NOT_IN_MEAN = ('pelvis', 'thorax')


def head_sizes(heads: np.ndarray) -> np.ndarray:
    """Sizes `(N,)` of heads with the boxes `(N, 4)` x0, y0, x1, y1, in pixels."""
    return _OF_DIAGONAL * np.linalg.norm(heads[:, 2:] - heads[:, :2], axis=1)


def pckh(
        predicted: np.ndarray, true: np.ndarray, heads: np.ndarray,
        valid: np.ndarray) -> dict[str, float]:
    """
    PCKh@0.5 in percent of head, the pairs of GROUPS and their mean; NaN where nothing is valid.

    predicted, true (N, 16, 2) pixels in MPII's order, heads (N, 4) boxes, valid (N, 16). A pair
    is the mean of its sides; `mean` is of all valid keypoints but pelvis and thorax, the upper
    neck among them. Raises EvaluationError for a head without a size.
    """
    hits = pck_hits(predicted, true, head_sizes(heads), np.array([THRESHOLD]), valid)[0]
    each = dict(zip(MPII_NAMES, mean_percent(hits, axis=0)))
    counted = [name not in _NOT_IN_MEAN for name in MPII_NAMES]
    return {
        'head': float(each['head_top']),
        **{part: float(0.5 * (each[f'left_{part}'] + each[f'right_{part}'])) for part in GROUPS},
        'mean': float(mean_percent(hits[:, counted], axis=(0, 1)))}
