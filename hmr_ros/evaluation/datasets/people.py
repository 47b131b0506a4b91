# SPDX-License-Identifier: Apache-2.0
"""What a dataset reader yields: one labelled person at a time, and that person's picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.perception.camera import Camera

JOINTS = 29
_SHAPES = {
    'box': (4,), 'joints2d': (JOINTS, 2), 'joints2d_weight': (JOINTS,), 'joints3d': (JOINTS, 3),
    'joints3d_weight': (JOINTS,), 'distortion': (5,), 'rotmats': (24, 3, 3), 'betas': (10,),
    'head': (4,)}


@dataclass(frozen=True, eq=False)
class LabelledPerson:
    """
    One person of a dataset; arrays are float32, joints are the 24 of SMPL and the five leaves.

    file, frame       picture file and None, or video file and frame number from 0
    sequence          name of the recording; of single pictures, the picture
    person_id         tells people of one sequence apart; for COCO the annotation's id
    box               (4,)    x0, y0, x1, y1 in pixels
    joints2d          (29, 2) pixels, and joints2d_weight (29,): 0 where the dataset has no label
    joints3d          (29, 3) metres, optical frame, and joints3d_weight (29,)
    camera            None where the dataset has none
    distortion        (5,)    k1, k2, p1, p2, k3 as in OpenCV, or None; joints2d contains it
    rotmats           (24, 3, 3) relative to the parent, the root in the optical frame, or None
    betas             (10,)   of the SMPL body of `gender`, or None
    subject, gender   'S1' and the like, 'male' or 'female', or None
    native2d          (K, 3)  the dataset's own keypoints: pixels and its visibility or confidence
    native3d          (K, 3)  the dataset's own joints in metres, optical frame, or None
    area              square pixels of the person's outline, or None
    head              (4,)    box of the head, x0, y0, x1, y1 in pixels, or None

    Raises EvaluationError when an array has another shape.
    """

    file: Path
    frame: int | None
    sequence: str
    person_id: str
    box: np.ndarray
    joints2d: np.ndarray
    joints2d_weight: np.ndarray
    joints3d: np.ndarray
    joints3d_weight: np.ndarray
    native2d: np.ndarray
    native3d: np.ndarray | None = None
    camera: Camera | None = None
    distortion: np.ndarray | None = None
    rotmats: np.ndarray | None = None
    betas: np.ndarray | None = None
    subject: str | None = None
    gender: str | None = None
    area: float | None = None
    head: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, shape in _SHAPES.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise EvaluationError(
                    f'{self.file}: {name} of person {self.person_id} has shape {value.shape}, '
                    f'expected {shape}')


class People(Iterator[LabelledPerson]):
    """
    An iterator of people that reads as it goes.

    `skipped` counts, by reason, the people and recordings left out so far.
    """

    def __init__(self, generate: Callable[[Counter[str]], Iterator[LabelledPerson]]) -> None:
        self.skipped: Counter[str] = Counter()
        self._people = generate(self.skipped)

    def __next__(self) -> LabelledPerson:
        return next(self._people)


class Pictures:
    """
    Reads people's pictures; keeps the last video open, so that reading on costs one frame each.

    Use it in a `with` statement, or close it.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._video: cv2.VideoCapture | None = None
        self._next = 0

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the video, if one is open."""
        if self._video is not None:
            self._video.release()
        self._path = self._video = None

    def read(self, person: LabelledPerson) -> np.ndarray:
        """
        Return the picture that shows `person`, uint8 `(H, W, 3)` BGR.

        Raises EvaluationError, which names the file, when it cannot be read.
        """
        if person.frame is None:
            return read_image(person.file)
        if person.file != self._path or person.frame < self._next:
            self.close()
            self._video, self._path, self._next = open_video(person.file), person.file, 0
        # Seeking by number lands on other frames in some decoders; counting does not.
        good = all(self._video.grab() for _ in range(person.frame - self._next + 1))
        good, image = self._video.retrieve() if good else (False, None)
        if not good:
            self.close()
            raise EvaluationError(
                f'video {person.file} has no frame {person.frame} or it cannot be decoded; copy '
                'the file again')
        self._next = person.frame + 1
        return image


def read_picture(person: LabelledPerson) -> np.ndarray:
    """Return one picture as Pictures.read does; for many frames of a video use Pictures."""
    with Pictures() as pictures:
        return pictures.read(person)


def read_image(path: Path) -> np.ndarray:
    """Read a picture file, uint8 `(H, W, 3)` BGR, or raise EvaluationError."""
    # Labels are in the stored pixels, so a camera's note on how it was held must not turn them.
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise EvaluationError(
            f'picture {path} is not there or cannot be read; unpack the dataset\'s pictures again')
    return image


def open_video(path: Path) -> cv2.VideoCapture:
    """Open a video file or raise EvaluationError."""
    video = cv2.VideoCapture(str(path)) if path.is_file() else None
    if video is None or not video.isOpened():
        raise EvaluationError(
            f'video {path} is not there or cannot be decoded; unpack the dataset\'s videos again')
    return video


def video_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels of a video's frames; raises EvaluationError."""
    video = open_video(path)
    size = (int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    video.release()
    return size
