# SPDX-License-Identifier: Apache-2.0
"""How far meshes and joints of whole bodies are from true ones (bidrn sheet, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
import functools

import numpy as np

from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.body.whole_body_joints import (
    HAND_JOINTS, HEAD, JAW, LEFT_HAND, LEFT_WRIST, NAMED_VERTICES, NECK, RIGHT_EYE, RIGHT_HAND,
    RIGHT_WRIST)
from hmr_ros.evaluation import metrics
from hmr_ros.evaluation.errors import EvaluationError

#: what is measured of each person, mm.
MEASURES = ('mpvpe_all', 'mpvpe_hand', 'mpvpe_face', 'pa_mpvpe_all', 'pa_mpvpe_hand',
            'pa_mpvpe_face', 'pa_mpjpe_body', 'pa_mpjpe_hand')
_MM = 1000.0
#: ankles, knees, hips, wrists, elbows, shoulders, neck, head: the 14 that LSP labels.
_FOURTEEN = [8, 5, 2, 1, 4, 7, 21, 19, 17, 16, 18, 20, NECK, HEAD]


@dataclass(frozen=True)
class Part:
    """
    Part of a mesh.

    vertices  indices of its vertices
    origin    joint, a row of the regressor, that is put onto its true place first
    """

    vertices: np.ndarray
    origin: int


class WholeBodyMeasures:
    """
    Measures of one body model.

    Hands and face are the vertices that move with their joints more than with others; the
    published numbers come from lists of MANO's and FLAME's vertices, which are licensed, and from a
    licensed regressor of 14 joints, in whose place the model's own joints stand.
    """

    def __init__(self, body: WholeBodyModel) -> None:
        self.body = body
        owner = body.weights.argmax(1)
        left, right = (np.isin(owner, [wrist, *range(first, first + HAND_JOINTS)])
                       for wrist, first in ((LEFT_WRIST, LEFT_HAND), (RIGHT_WRIST, RIGHT_HAND)))
        face = np.isin(owner, [HEAD, *range(JAW, RIGHT_EYE + 1)])
        self.whole = Part(np.arange(len(owner)), 0)
        self.hands = (Part(np.flatnonzero(left), LEFT_WRIST),
                      Part(np.flatnonzero(right), RIGHT_WRIST))
        self.face = Part(np.flatnonzero(face), NECK)

    @functools.cached_property
    def _tips(self) -> np.ndarray:
        """Vertices `(2, 5)` at the ends of left and right fingers."""
        rows = [row for row, name in enumerate(NAMED_VERTICES)
                if name.split('_')[-1] in ('thumb', 'index', 'middle', 'ring', 'pinky')]
        return self.body.named_vertices[rows].reshape(2, 5)

    def __call__(self, found: np.ndarray, true: np.ndarray) -> np.ndarray:
        """
        Errors `(N, 8)` in mm, see MEASURES, of vertices `(N, V, 3)` in metres.

        Raises EvaluationError when the meshes are of another body.
        """
        expected = (len(true), len(self.body.v_template), 3)
        if found.shape != expected or true.shape != expected:
            raise EvaluationError(
                f'meshes have the shapes {found.shape} and {true.shape}; the body '
                f'{self.body.name!r} has {expected[1]} vertices. Give the body of both')
        joints = [self.body.J_regressor @ vertices for vertices in (found, true)]
        parts = [self.whole, *self.hands, self.face]
        plain = [_distance(found, true, part, *joints) for part in parts]
        aligned = [_aligned(found[:, part.vertices], true[:, part.vertices]) for part in parts]
        hands = [_aligned(*(self._hand(points, row, side) for points, row in zip(
            (found, true), joints))) for side in (0, 1)]
        body = _aligned(*(row[:, _FOURTEEN] for row in joints))
        both = [[each[0], (each[1] + each[2]) / 2, each[3]] for each in (plain, aligned)]
        return _MM * np.stack([*both[0], *both[1], body, (hands[0] + hands[1]) / 2], 1)

    def _hand(self, vertices: np.ndarray, joints: np.ndarray, side: int) -> np.ndarray:
        """Wrist, 15 joints and 5 tips `(N, 21, 3)` of a hand."""
        wrist, first = ((LEFT_WRIST, LEFT_HAND), (RIGHT_WRIST, RIGHT_HAND))[side]
        return np.concatenate([
            joints[:, [wrist, *range(first, first + HAND_JOINTS)]],
            vertices[:, self._tips[side]]], 1)


def _distance(
        found: np.ndarray, true: np.ndarray, part: Part, joints: np.ndarray,
        true_joints: np.ndarray) -> np.ndarray:
    """Mean distance `(N,)` of a part's vertices, seen from its origin."""
    ours, theirs = (points[:, part.vertices] - row[:, part.origin, None]
                    for points, row in ((found, joints), (true, true_joints)))
    return np.linalg.norm(ours - theirs, axis=-1).mean(1)


def _aligned(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return metrics.aligned_errors(found, true).mean(1)
