# SPDX-License-Identifier: Apache-2.0
"""What engines that look at crops of people share: all people of a frame in one batch."""

from __future__ import annotations

import abc
from dataclasses import dataclass
import time
from typing import Callable, Generic, Mapping, Protocol, Sequence, TypeVar

import numpy as np

from hmr_ros.perception.crop_plan import CropPlan, plan_crops
from hmr_ros.perception.crops import (
    BILINEAR, CropStyle, CropTransform, cut_crops, place_crops)
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.person import PersonBox

Outputs = Mapping[str, np.ndarray]
Found = TypeVar('Found')
#: boxes that show something of the image, and their crops.
Placed = Sequence[tuple[PersonBox, CropTransform]]


class Network(Protocol):
    """What reading asks of an engine."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one batch."""
        ...


class Tensor(Protocol):
    """A named input or output; `shape` has -1 where the number of people goes."""

    name: str
    shape: tuple[int, ...]


class DescribedNetwork(Network, Protocol):
    """An engine that says what it takes and gives."""

    name: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]


class CroppingNetwork(Network, Protocol):
    """An engine that may cut bilinear crops itself, so that their batch never leaves its device."""

    @property
    def run_crops(self) -> Callable[
            [np.ndarray, CropPlan, Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None:
        """Run one batch of crops of an image, given the other inputs; None where it cannot."""
        ...


#: runs some of the crops of a frame, given the other inputs of all of them.
_RunCrops = Callable[[slice, Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class CropSettings:
    """
    How crops are made; `image_size`, `mean`, `std` come with the engine.

    image_size  side of the crop in pixels
    mean, std   per channel R, G, B of values 0 to 1
    max_batch   most crops in one call of the engine; more people take several calls
    max_people  most people per frame; the best scores win
    """

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    max_batch: int = 16
    max_people: int = 32


@dataclass(frozen=True)
class FrameRecord:
    """
    Times in milliseconds of the last frame, and boxes and people that were left out of it.

    An engine that cuts the crops itself does so in `network_ms`; `crop_ms` is their planning then.
    """

    crop_ms: float = 0.0
    network_ms: float = 0.0
    decode_ms: float = 0.0
    people: int = 0
    rejected_boxes: int = 0
    rejected_people: int = 0


class CropReader(abc.ABC, Generic[Found]):
    """
    Reads all people of a frame by one engine; what each network does its own way.

    `rejected_boxes` and `rejected_people` count, since the start, boxes that show nothing of the
    image and people whose numbers cannot be used. `record` describes the last frame.
    """

    style: CropStyle = BILINEAR

    def __init__(self, engine: Network | CroppingNetwork, settings: CropSettings) -> None:
        self._engine = engine
        self._settings = settings
        self.rejected_boxes = 0
        self.rejected_people = 0
        self.record = FrameRecord()

    def _read_frame(
            self, image: np.ndarray, color_order: str, boxes: Sequence[PersonBox],
            decode: Callable[[Outputs, Placed], list[Found]]) -> list[Found]:
        """
        Crop, run, and `decode` the outputs of one or more people whose numbers can be used.

        What is found keeps the order of the boxes. Raises PerceptionError for an image or an
        engine that cannot be used, and passes on the engine's own error.
        """
        start = time.perf_counter()
        boxes = best_boxes(boxes, self._settings.max_people)
        transforms = place_crops(
            image, color_order, np.array([box.box for box in boxes]).reshape(-1, 4),
            self._settings.image_size, self.style)
        used = [(box, t) for box, t in zip(boxes, transforms) if t is not None]
        run_crops = self._crops(image, color_order, [transform for _, transform in used])
        cropped = time.perf_counter()
        outputs = self._run(run_crops, len(used), self._other_feeds([box for box, _ in used]))
        inferred = time.perf_counter()
        found = self._decode_usable(outputs, used, decode) if used else []
        times = (start, cropped, inferred, time.perf_counter())
        self._note(times, len(found), len(boxes) - len(used), len(used) - len(found))
        return found

    def _crops(
            self, image: np.ndarray, color_order: str,
            transforms: Sequence[CropTransform]) -> _RunCrops:
        """Cut the crops, or plan them for an engine that does it; return what runs them."""
        settings, run_crops = self._settings, getattr(self._engine, 'run_crops', None)
        if run_crops is not None and self.style is BILINEAR:
            plan = plan_crops(
                color_order, transforms, settings.image_size, settings.mean, settings.std)
            return lambda rows, feeds: run_crops(image, plan.part(rows), feeds)
        batch = cut_crops(
            image, color_order, transforms, settings.image_size, settings.mean, settings.std,
            self.style)
        return lambda rows, feeds: self._engine.run({'image': batch[rows], **feeds})

    def _other_feeds(self, boxes: Sequence[PersonBox]) -> dict[str, np.ndarray]:
        """Return the engine's inputs for `boxes` besides their crops."""
        return {}

    @abc.abstractmethod
    def _check(self, outputs: Outputs) -> None:
        """Raise PerceptionError when they are not those of the network."""

    def _usable(self, outputs: Outputs) -> np.ndarray:
        """Tell, bool `(N,)`, whose numbers are finite."""
        good = np.ones(len(next(iter(outputs.values()))), bool)
        for array in outputs.values():
            good &= np.all(np.isfinite(array.reshape(len(good), -1)), axis=1)
        return good

    def _run(
            self, run_crops: _RunCrops, count: int,
            feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        step, parts = self._settings.max_batch, []
        for first in range(0, count, step):
            rows = slice(first, min(first + step, count))
            part = run_crops(rows, {name: array[rows] for name, array in feeds.items()})
            self._check(part)
            _check_rows(part, rows.stop - rows.start)
            parts.append(part)
        if len(parts) <= 1:
            return parts[0] if parts else {}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _decode_usable(
            self, outputs: Outputs, used: Placed,
            decode: Callable[[Outputs, Placed], list[Found]]) -> list[Found]:
        good = self._usable(outputs)
        used = [pair for pair, kept in zip(used, good) if kept]
        return decode({name: array[good] for name, array in outputs.items()}, used) if used else []

    def _note(
            self, times: tuple[float, float, float, float], people: int, rejected_boxes: int,
            rejected_people: int) -> None:
        crop_ms, network_ms, decode_ms = 1000 * np.diff(times)
        self.rejected_boxes += rejected_boxes
        self.rejected_people += rejected_people
        self.record = FrameRecord(
            float(crop_ms), float(network_ms), float(decode_ms), people, rejected_boxes,
            rejected_people)


def best_boxes(boxes: Sequence[PersonBox], count: int) -> list[PersonBox]:
    """Return the `count` boxes of the best scores, in their order."""
    if len(boxes) <= count:
        return list(boxes)
    kept = sorted(range(len(boxes)), key=lambda i: -boxes[i].score)[:count]
    return [boxes[i] for i in sorted(kept)]


def certainty_of(box: PersonBox) -> float:
    """Return the score of a box, 1 where its detector gives none."""
    return 1.0 if np.isnan(box.score) else float(box.score)


def _check_rows(outputs: Outputs, count: int) -> None:
    for name, array in outputs.items():
        if len(array) != count:
            raise PerceptionError(
                f'engine output {name!r} has shape {array.shape} for {count} people; its first '
                'axis must be theirs. Export the network with a free batch')
