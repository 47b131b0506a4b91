# SPDX-License-Identifier: Apache-2.0
"""How steady an engine is from frame to frame, on synthetic people in motion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.progress import Progress

from hmr_ros.evaluation import held_out, metrics
from hmr_ros.evaluation.held_out import crops_of, truth_of
from hmr_ros.evaluation.prediction import Crops, predict, Predictions
from hmr_ros.evaluation.subject import Subject
from hmr_ros.training.synthetic import CLEAN, CutoutStore, SyntheticPeople

#: a detector's box shakes by these shares of its scale and side.
JITTER = replace(CLEAN, zoom=0.02, shift=0.01)
RATE_HZ = 15.0


@dataclass(frozen=True)
class Film:
    """T frames of one person: crops, what an engine said of them, true joints (T, 24, 3)."""

    crops: Crops
    predictions: Predictions
    joints3d: np.ndarray


def films(
        subject: Subject, store: CutoutStore, frames: int, progress: Progress | None = None,
        ) -> list[Film]:
    """Run an engine on every sequence of a store of `render_sequences`."""
    people = held_out.held_out_people(store, subject.settings.image_size, JITTER)
    rows, count = [], len(store) // frames
    task = progress.add_task('Sequences', total=count) if progress else None
    for sequence in range(count):
        samples = film_samples(people, sequence, frames)
        crops = crops_of(samples)
        predictions = predict(subject.engine, subject.body, subject.settings, crops)
        rows.append(Film(crops, predictions, truth_of(samples, crops).joints3d))
        if progress:
            progress.advance(task)
    return rows


def film_samples(
        people: SyntheticPeople, sequence: int, frames: int) -> dict[str, np.ndarray]:
    """Compose one sequence: the background stays, the box shakes."""
    first, shake = sequence * frames, people.rng(sequence)
    rows = [people.frame(index, shake, np.random.default_rng([held_out.SEED, sequence]))
            for index in range(first, first + frames)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def evaluate_sequences(
        subject: Subject, count: int, frames: int = 32,
        progress: Progress | None = None) -> dict[str, Any]:
    """
    Accelerations of pelvis-relative joints in mm per frame^2, at RATE_HZ (sheet rsc_net, 4).

    acceleration_error_mm  of the difference between predicted and true joints
    acceleration_mm        of the predicted joints; true_acceleration_mm of the true ones
    acceleration_error_concatenated_mm   see `steadiness`
    """
    store = held_out.held_out_films(subject.body, count, frames, RATE_HZ)
    rows = films(subject, store, frames, progress)
    return {'sequences': count, 'frames': frames, 'rate_hz': RATE_HZ, **steadiness(
        [film.predictions.joints3d for film in rows], [film.joints3d for film in rows])}


def steadiness(predicted: list[np.ndarray], true: list[np.ndarray]) -> dict[str, float]:
    """
    Compare the movement of joints `(T, 24, 3)` of each sequence, metres, with the true one.

    Means over the sequences; `..._concatenated_mm` puts them end to end first, as the reference
    does, so that some differences straddle two of them (sheet rsc_net, section 4).
    """
    moved = [joints - joints[:, :1] for joints in predicted]
    meant = [joints - joints[:, :1] for joints in true]
    still = [np.zeros_like(joints) for joints in meant]
    pairs = {'acceleration_error_mm': (moved, meant), 'acceleration_mm': (moved, still),
             'true_acceleration_mm': (meant, still)}
    end_to_end = metrics.acceleration_errors(np.concatenate(moved), np.concatenate(meant))
    return {**{name: 1000 * float(np.mean([
        metrics.acceleration_errors(a, b).mean() for a, b in zip(*pair)]))
        for name, pair in pairs.items()},
        'acceleration_error_concatenated_mm': 1000 * float(end_to_end.mean())}
