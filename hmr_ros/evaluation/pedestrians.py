# SPDX-License-Identifier: Apache-2.0
"""Pedestrians of a real clip, boxed by eye: the labels ship with the package, the clip does not."""

from __future__ import annotations

from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np

from hmr_ros.evaluation.box_matching import Truth
from hmr_ros.evaluation.errors import EvaluationError

LABELS = Path(__file__).parent / 'data' / 'pedestrians.json'


@dataclass(frozen=True)
class LabelledFrame(Truth):
    """
    Everybody in frame `number`, from 0, of the clip; boxes are float64.

    Ignored are people who are cut or hidden too far to be found or missed.
    """

    number: int


@dataclass(frozen=True)
class LabelledClip:
    """File name of a clip, and its labelled frames, first one first."""

    file: str
    frames: tuple[LabelledFrame, ...]


def read_pedestrians(path: Path = LABELS) -> LabelledClip:
    """Read the labels; raises EvaluationError when the file cannot be read or is not in order."""
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        clip = LabelledClip(str(content['file']), tuple(map(_frame, content['frames'])))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f'labels {path} cannot be read ({error!r}); install the package again') from error
    numbers = [frame.number for frame in clip.frames]
    if not numbers or numbers != sorted(set(numbers)) or numbers[0] < 0:
        raise EvaluationError(
            f'labels {path} have the frames {numbers}; expected numbers that rise from 0 or more')
    for frame in clip.frames:
        _check(path, frame)
    return clip


def _frame(row: dict[str, Any]) -> LabelledFrame:
    people, ignored = (
        np.asarray(row[name], np.float64).reshape(len(row[name]), 4)
        for name in ('people', 'ignored'))
    return LabelledFrame(people, ignored, int(row['frame']))


def _check(path: Path, frame: LabelledFrame) -> None:
    boxes = np.concatenate([frame.people, frame.ignored])
    wrong = ~(np.all(boxes[:, :2] >= 0, axis=1) & np.all(boxes[:, 2:] > boxes[:, :2], axis=1))
    if np.any(wrong):
        raise EvaluationError(
            f'labels {path}: frame {frame.number} has the box {boxes[wrong][0].tolist()}; expected '
            'x0, y0, x1, y1 with 0 <= x0 < x1 and 0 <= y0 < y1')
