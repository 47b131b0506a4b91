# SPDX-License-Identifier: Apache-2.0
"""Errors of many people, kept per person and joint, and the numbers a report draws from them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Sequence

import numpy as np

from hmr_ros.body.model import BodyModel
from hmr_ros.evaluation import metrics
from hmr_ros.evaluation.breakdowns import attributes, GROUPS
from hmr_ros.evaluation.held_out import MeanPose, Truth
from hmr_ros.evaluation.metrics import LIMB_JOINTS, mean_percent
from hmr_ros.evaluation.oks import AREA_OF_BOX, average_precision, oks
from hmr_ros.evaluation.prediction import Predictions
from hmr_ros.perception.crops import CropTransform
from hmr_ros.perception.skeleton import JOINT_NAMES

THRESHOLDS = np.round(np.arange(0.05, 0.51, 0.05), 2)
#: index of the threshold that single numbers are given at.
MAIN = 3
_VERTEX_CHUNK = 16


@dataclass(frozen=True)
class Scores:
    """
    Of N people: joint errors (N, 24) and aligned ones in mm, mean vertex error (N,) in mm (NaN
    when there is no mesh), hits (T, N, 24) at THRESHOLDS of the body's joints and of the network's
    keypoints, NaN outside the crop, and whether joints are seen (N, 24); mean vertex error after
    the best similarity (N,) in mm; OKS (N,) of the limbs; confidence (N, 24) of the joints;
    `attributes`, such as the distance (N,), by name.
    """

    errors: np.ndarray
    aligned: np.ndarray
    vertices: np.ndarray
    hits: np.ndarray
    keypoint_hits: np.ndarray
    seen: np.ndarray
    aligned_vertices: np.ndarray
    oks: np.ndarray
    confidence: np.ndarray
    attributes: dict[str, np.ndarray]

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """Put people together."""
        axes = {'hits': 1, 'keypoint_hits': 1}
        arrays = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts],
                                   axis=axes.get(f.name, 0))
            for f in fields(cls) if f.name != 'attributes'}
        return cls(**arrays, attributes={
            name: np.concatenate([part.attributes[name] for part in parts])
            for name in parts[0].attributes})


def score(predictions: Predictions, truth: Truth, body: BodyModel | None) -> Scores:
    """Compare predictions with the truth; without a `body` the meshes are left out."""
    torso = metrics.torso_size(truth.joints2d)
    hits = [metrics.pck_hits(points, truth.joints2d, torso, THRESHOLDS, truth.inside)
            for points in (predictions.joints2d, predictions.keypoints2d)]
    vertices, aligned_vertices = np.full((2, len(truth.betas)), np.nan)
    if body is not None:
        vertices, aligned_vertices = 1000 * _vertex_errors(predictions, truth, body)
    return Scores(
        1000 * metrics.joint_errors(predictions.joints3d, truth.joints3d),
        1000 * metrics.aligned_errors(predictions.joints3d, truth.joints3d), vertices, *hits,
        truth.seen, aligned_vertices, _oks(predictions.joints2d, truth),
        predictions.confidence, attributes(truth))


def _oks(joints2d: np.ndarray, truth: Truth) -> np.ndarray:
    size = truth.box[:, 2:] - truth.box[:, :2]
    return oks(joints2d[:, LIMB_JOINTS], truth.joints2d[:, LIMB_JOINTS],
               AREA_OF_BOX * size.prod(axis=1), truth.inside[:, LIMB_JOINTS])


def _vertex_errors(predictions: Predictions, truth: Truth, body: BodyModel) -> np.ndarray:
    """Mean vertex errors `(2, N)` in metres: pelvis on pelvis, and after the best similarity."""
    errors = []
    for first in range(0, len(truth.betas), _VERTEX_CHUNK):
        part = slice(first, first + _VERTEX_CHUNK)
        (found, found_joints), (true, true_joints) = (
            body.skin(one.rotmats[part], one.betas[part], one.transl[part])
            for one in (predictions, truth))
        shift = true_joints[:, :1] - found_joints[:, :1]
        errors.append([np.linalg.norm(found + shift - true, axis=-1).mean(axis=1),
                       metrics.aligned_errors(found, true).mean(axis=1)])
    return np.concatenate(errors, axis=1)


def score_mean_pose(
        mean: MeanPose, truth: Truth, transforms: Sequence[CropTransform]) -> Scores:
    """Score the answer that ignores the picture."""
    count = len(truth.joints3d)
    camera, own = (np.tile(points, (count, 1, 1)) for points in (mean.camera, mean.own))
    pixels, nothing = mean.pixels(transforms), np.full(count, np.nan)
    hits = metrics.pck_hits(
        pixels, truth.joints2d, metrics.torso_size(truth.joints2d), THRESHOLDS, truth.inside)
    return Scores(
        1000 * metrics.joint_errors(camera, truth.joints3d),
        1000 * metrics.aligned_errors(own, truth.joints3d), nothing, hits, hits, truth.seen,
        nothing, _oks(pixels, truth), np.zeros((count, len(mean.uv))), attributes(truth))


def summary(scores: Scores) -> dict[str, Any]:
    """
    Numbers of a report.

    pck: percent at 0.2 of the torso, joints inside the crop; `limbs` are the 12 limb joints, `all`
    all 24, `limbs_seen` those that nothing hides, `keypoints_*` the network's own keypoints.
    """
    seen = np.where(scores.seen, scores.hits[MAIN], np.nan)[:, LIMB_JOINTS]
    return {
        'samples': len(scores.errors),
        'mpjpe_mm': float(scores.errors.mean()),
        'pa_mpjpe_mm': float(scores.aligned.mean()),
        **({} if np.isnan(scores.vertices).any() else {
            'mpvpe_mm': float(scores.vertices.mean()),
            'pa_mpvpe_mm': float(scores.aligned_vertices.mean())}),
        'oks_ap': average_precision(
            scores.oks, scores.confidence[:, LIMB_JOINTS].mean(axis=1)),
        'pck': {
            'limbs': percent(scores.hits[MAIN][:, LIMB_JOINTS]),
            'all': percent(scores.hits[MAIN]),
            'limbs_seen': percent(seen),
            'keypoints_limbs': percent(scores.keypoint_hits[MAIN][:, LIMB_JOINTS]),
            'keypoints_all': percent(scores.keypoint_hits[MAIN])},
        'pck_curve': curve(scores.hits[..., LIMB_JOINTS])}


def percent(hits: np.ndarray) -> float:
    """Mean of all hits that count, in percent."""
    return float(mean_percent(hits, axis=tuple(range(hits.ndim))))


def curve(hits: np.ndarray) -> dict[str, list[float]]:
    """PCK at each threshold for hits `(T, N, J)`."""
    return {'thresholds': THRESHOLDS.tolist(),
            'limbs': mean_percent(hits, axis=(1, 2)).tolist()}


def per_joint(scores: Scores) -> dict[str, dict[str, float]]:
    """MPJPE, PA-MPJPE and PCK@0.2 of each joint by name."""
    hits = mean_percent(scores.hits[MAIN], axis=0)
    return {
        name: {'mpjpe_mm': float(scores.errors[:, j].mean()),
               'pa_mpjpe_mm': float(scores.aligned[:, j].mean()), 'pck': float(hits[j])}
        for j, name in enumerate(JOINT_NAMES)}


def reliability(confidence: np.ndarray, hits: np.ndarray, groups: int = 8) -> list[dict[str, Any]]:
    """
    How often joints are right, by what the network says of them.

    confidence, hits (N, J), hits NaN where not valid; groups of equally many joints, least
    confident first. A calibrated confidence is the share of joints that are right.
    """
    valid = ~np.isnan(hits)
    order = np.argsort(confidence[valid], kind='stable')
    said, right = confidence[valid][order], hits[valid][order]
    return [{'confidence': float(a.mean()), 'right': float(b.mean()), 'joints': len(a)}
            for a, b in zip(np.array_split(said, groups), np.array_split(right, groups)) if len(a)]


def by_group(scores: Scores, name: str) -> list[dict[str, Any]]:
    """PCK@0.2 of the limbs, MPJPE and PA-MPJPE of each group of GROUPS[name] with anybody in it."""
    borders, values = GROUPS[name], scores.attributes[name]
    rows = []
    for low, high in zip(borders, borders[1:]):
        inside = (values >= low) & (values < high)
        if np.any(inside):
            rows.append({
                'from': float(low), 'to': None if np.isinf(high) else float(high),
                'samples': int(inside.sum()),
                'pck': percent(scores.hits[MAIN][inside][:, LIMB_JOINTS]),
                'mpjpe_mm': float(scores.errors[inside].mean()),
                'pa_mpjpe_mm': float(scores.aligned[inside].mean())})
    return rows
