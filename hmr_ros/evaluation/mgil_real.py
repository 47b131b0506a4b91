# SPDX-License-Identifier: Apache-2.0
"""Keypoints of the real people labelled by eye, at their own size and from farther away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hmr_ros.evaluation import metrics
from hmr_ros.evaluation.mgil_contender import Contender, keypoints_in, Look
from hmr_ros.evaluation.real_people import LabelledPicture, read_labels, read_pictures
from hmr_ros.perception import simcc
from hmr_ros.perception.crops import CropTransform

#: longer sides of boxes in pixels that pictures are shrunk to; None: as they are.
SIZES = (None, 48, 24)
#: the labelled joints are COCO's limbs, in its order.
_LIMBS = slice(5, 17)
_PCK_SHARE = np.array([0.2])


def evaluate_real(
        contenders: Sequence[Contender], folder: str | Path, look: Look) -> dict[str, Any]:
    """
    PCK@0.2 of the torso, percent of the seen limbs, of the labelled people in `folder`.

    Boxes are the labelled ones. Raises EvaluationError when the folder has none of the pictures.
    """
    pictures, missing = read_pictures(folder, read_labels())
    people = [person for picture in pictures for person in picture.people]
    rows = [{'engine': one.name, 'pixels': size or 'own',
             **_scored(_found(one, pictures, size, look), people)}
            for one in contenders for size in SIZES]
    return {'people': len(people), 'missing_files': missing, 'rows': rows}


def _found(
        one: Contender, pictures: Sequence[LabelledPicture], size: int | None,
        look: Look) -> np.ndarray:
    """Limbs `(N, 12, 2)` of all people, pixels of the pictures."""
    found = []
    for picture in pictures:
        image = cv2.cvtColor(picture.image, cv2.COLOR_BGR2RGB)
        for person in picture.people:
            share = min(1.0, size / max(person.box[2:] - person.box[:2])) if size else 1.0
            smaller = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
            # What was rounded to whole pixels, along x and y.
            shares = np.array([smaller.shape[1], smaller.shape[0]]) / image.shape[1::-1]
            crop = CropTransform.from_box(person.box * np.tile(shares, 2), one.size)
            points, _ = keypoints_in(one, [smaller], [crop], look)
            found.append((points[0, _LIMBS] + 0.5) / shares - 0.5)
    return np.stack(found)


def _scored(found: np.ndarray, people: Sequence[Any]) -> dict[str, Any]:
    true = np.stack([person.joints for person in people])
    seen = np.stack([person.seen for person in people])
    layout = np.full((len(people), 24, 2), np.nan)
    layout[:, metrics.LIMB_JOINTS] = true
    hits = metrics.pck_hits(found, true, metrics.torso_size(layout), _PCK_SHARE, seen)[0]
    return {'joints': int(seen.sum()), 'pck': float(metrics.mean_percent(hits, (0, 1))),
            'per_joint': dict(zip(simcc.COCO_NAMES[_LIMBS],
                                  map(float, metrics.mean_percent(hits, axis=0))))}
