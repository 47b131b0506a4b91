# SPDX-License-Identifier: Apache-2.0
"""Which way an engine is read, and two engines for people large and small in the image."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Sequence

import numpy as np

from hmr_ros.body.model import SkinnedModel
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crop_reading import best_boxes, FrameRecord, Network
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.mesh_recovery import BodyRecovery, MeshRecovery, settings_for
from hmr_ros.perception.person import Person, PersonBox
from hmr_ros.perception.rsc_net_recovery import RscNetRecovery
from hmr_ros.perception.whole_body import WholeBodyRecovery

#: a track changes its engine when its height is beyond the threshold by this share of it.
HYSTERESIS = 0.1
_MOST_TRACKS = 256
#: networks that are not read as keypoint_guided, by the name in their manifest entry.
_READERS: dict[str, type[BodyRecovery]] = {
    'rsc_net': RscNetRecovery, 'bidrn': WholeBodyRecovery}


def whole_bodies(engines: Sequence[Network]) -> bool:
    """
    Tell whether engines recover hands and faces too.

    Raises PerceptionError when only some of them do: people of one message have one layout.
    """
    whole = {_READERS.get(_network_of(engine)) is WholeBodyRecovery for engine in engines}
    if len(whole) > 1:
        raise PerceptionError(
            f'of the engines {", ".join(map(_network_of, engines))} some recover hands and faces '
            'and some do not; set engine.near and engine.far to engines of one kind')
    return True in whole


def _network_of(engine: Network) -> str:
    """Name of an engine's network, '' where it has no entry in a manifest."""
    return getattr(getattr(engine, 'entry', None), 'network', '')


def recovery_for(engine: Network, body: SkinnedModel, max_people: int) -> BodyRecovery:
    """
    Return what reads `engine`; its manifest entry, if it has one, says which network it is.

    Raises PerceptionError when it was trained for another body.
    """
    settings = replace(
        settings_for(getattr(engine, 'entry', None), body), max_people=max_people)
    return _READERS.get(_network_of(engine), MeshRecovery)(engine, body, settings)


class NearFarRecovery:
    """
    Recovers the people of a frame by two engines, one batch each.

    A person whose box is lower than `far_below` pixels goes to `far`. A tracked one changes only
    when it is beyond that by HYSTERESIS, so that nobody flickers between two networks. `record`,
    `rejected_boxes` and `rejected_people` are those of both.
    """

    def __init__(
            self, near: BodyRecovery, far: BodyRecovery, far_below: float,
            max_people: int) -> None:
        self.far_below, self.max_people = far_below, max_people
        self.far_people = 0
        self._near, self._far = near, far
        self._was_far: OrderedDict[str, bool] = OrderedDict()

    @property
    def rejected_boxes(self) -> int:
        """How many boxes showed nothing of their images, since the start."""
        return self._near.rejected_boxes + self._far.rejected_boxes

    @property
    def rejected_people(self) -> int:
        """How many people had numbers that cannot be used, since the start."""
        return self._near.rejected_people + self._far.rejected_people

    @property
    def record(self) -> FrameRecord:
        """The last frame: times and counts of both engines together."""
        return FrameRecord(*(
            one + other for one, other in zip(_numbers(self._near), _numbers(self._far))))

    def recover(
            self, image: np.ndarray, color_order: str, camera: Camera,
            boxes: Sequence[PersonBox]) -> list[Person]:
        """As `BodyRecovery.recover`; people keep the order of their boxes."""
        boxes = best_boxes(boxes, self.max_people)
        far = self._are_far(boxes)
        self.far_people = sum(far)
        found: dict[int, Person] = {}
        for recovery, wanted in ((self._near, False), (self._far, True)):
            chosen = [box for box, is_far in zip(boxes, far) if is_far is wanted]
            places = [i for i, is_far in enumerate(far) if is_far is wanted]
            found.update(_placed(
                recovery.recover(image, color_order, camera, chosen), chosen, places))
        return [found[i] for i in sorted(found)]

    def _are_far(self, boxes: Sequence[PersonBox]) -> list[bool]:
        rows = []
        for box in boxes:
            before = self._was_far.pop(box.track_id, None)
            height = float(box.box[3] - box.box[1])
            far = height < self.far_below * _shift(before)
            if box.track_id:
                self._was_far[box.track_id] = far
            rows.append(far)
        while len(self._was_far) > _MOST_TRACKS:
            self._was_far.popitem(last=False)
        return rows


def _shift(was_far: bool | None) -> float:
    """By what the threshold is multiplied for somebody who was near or far before."""
    if was_far is None:
        return 1.0
    return 1 + HYSTERESIS if was_far else 1 - HYSTERESIS


def _placed(
        people: Sequence[Person], boxes: Sequence[PersonBox],
        places: Sequence[int]) -> dict[int, Person]:
    """Return people by the place of their boxes; people keep the order, some are missing."""
    found, start = {}, 0
    for person in people:
        while not np.array_equal(np.asarray(boxes[start].box, np.float32), person.box):
            start += 1
        found[places[start]] = person
        start += 1
    return found


def _numbers(recovery: BodyRecovery) -> tuple[float, ...]:
    record = recovery.record
    return (record.crop_ms, record.network_ms, record.decode_ms, record.people,
            record.rejected_boxes, record.rejected_people)
