# SPDX-License-Identifier: Apache-2.0
"""Real people labelled by eye: the labels ship with the package, the pictures do not."""

from __future__ import annotations

from dataclasses import dataclass
import json
from pathlib import Path

import cv2
import numpy as np

from hmr_ros.evaluation.errors import EvaluationError

LABELS = Path(__file__).parent / 'data' / 'real_people.json'
_VIDEOS = ('.avi', '.mp4', '.mkv')


@dataclass(frozen=True)
class RealPerson:
    """
    One labelled person.

    file, frame  the picture: a file name, and the frame number if it is a video
    view         from where the person is seen, in words
    box          (4,)     x0, y0, x1, y1 in pixels
    joints       (12, 2)  pixels; shoulders, elbows, wrists, hips, knees, ankles, left before right
    seen         (12,)    bool; False where the place is hidden or a guess
    """

    file: str
    frame: int
    view: str
    box: np.ndarray
    joints: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class LabelledPicture:
    """A picture, BGR uint8 `(H, W, 3)`, and the people labelled in it."""

    image: np.ndarray
    people: tuple[RealPerson, ...]


def read_labels(path: Path = LABELS) -> list[RealPerson]:
    """Read the labels; raises EvaluationError when the file cannot be read or is not in order."""
    try:
        rows = json.loads(Path(path).read_text(encoding='utf-8'))['people']
        people = [_person(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f'labels {path} cannot be read ({error!r}); install the package again') from error
    for person in people:
        if person.joints.shape != (12, 2) or person.box.shape != (4,):
            raise EvaluationError(
                f'labels {path}: a person of {person.file} has joints of shape '
                f'{person.joints.shape} and a box of shape {person.box.shape}; expected (12, 2) '
                'and (4,)')
    return people


def _person(row: dict) -> RealPerson:
    joints = np.asarray(row['joints'], np.float64)
    return RealPerson(
        row['file'], int(row['frame']), row['view'], np.asarray(row['box'], np.float64),
        joints[:, :2], joints[:, 2] > 0)


def read_pictures(
        folder: str | Path, people: list[RealPerson]) -> tuple[list[LabelledPicture], list[str]]:
    """
    Read the pictures of `people` below `folder`.

    Returns the pictures in the order of the labels, and the names of files that `folder` lacks.
    Raises EvaluationError when it has none of them, or one that cannot be read.
    """
    folder = Path(folder).expanduser()
    names = list(dict.fromkeys(person.file for person in people))
    missing = [name for name in names if not (folder / name).is_file()]
    if len(missing) == len(names):
        raise EvaluationError(
            f'folder {str(folder)!r} has none of the labelled pictures {", ".join(names)}; give '
            'the folder examples/data of the Debian package opencv-doc')
    pictures = []
    for name in names:
        if name not in missing:
            mine = [person for person in people if person.file == name]
            frames = _frames(folder / name, {person.frame for person in mine})
            pictures += [
                LabelledPicture(image, tuple(p for p in mine if p.frame == frame))
                for frame, image in sorted(frames.items())]
    return pictures, missing


def _frames(path: Path, wanted: set[int]) -> dict[int, np.ndarray]:
    if path.suffix.lower() not in _VIDEOS:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise EvaluationError(f'picture {path} cannot be read; copy it again')
        return {frame: image for frame in wanted}
    capture, frames = cv2.VideoCapture(str(path)), {}
    # Seeking by number lands on other frames in some decoders; counting does not.
    for frame in range(max(wanted) + 1):
        good, image = capture.read()
        if not good:
            break
        if frame in wanted:
            frames[frame] = image
    capture.release()
    if set(frames) != wanted:
        raise EvaluationError(
            f'video {path} ends before frame {max(wanted)} or cannot be decoded; copy it again')
    return frames
