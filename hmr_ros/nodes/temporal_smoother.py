# SPDX-License-Identifier: Apache-2.0
"""Node `temporal_smoother`: SMPL-format people in, the same people steadier over time out."""

from __future__ import annotations

from collections.abc import Callable
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from hmr_ros.body import BodyModel, load_body, load_whole_body
from hmr_ros.msg import SmplArray
from hmr_ros.nodes.conversions import (
    camera_from_message, check_body, people_from_message, person_to_message)
from hmr_ros.nodes.engine_node import EngineNode
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import run_nodes
from hmr_ros.nodes.pairing import nanoseconds
from hmr_ros.nodes.qos import overridable, result_qos
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.learned_smoothing import LearnedSmoother
from hmr_ros.perception.one_euro import OneEuroSettings
from hmr_ros.perception.smoothing import BodySmoother, OneEuroSmoother, SmoothingSettings
from hmr_ros.perception.whole_body_smoothing import WholeBodySmoother
from hmr_ros.runtime import EngineError, quantized_engines, temporal_engines


class TemporalSmootherNode(EngineNode):
    """
    Publishes `smpl_smoothed` for every message of `smpl`, with the same header.

    A temporal engine smooths the people of the engine whose features it was trained on; all others
    are smoothed by One-Euro filters. `list_engines()` is replaced in tests.
    """

    TABLE = 'temporal_smoother'
    INPUT = 'smpl'

    def __init__(
            self, list_engines: Callable[[], list[str]] = temporal_engines,
            **node_arguments: Any) -> None:
        """Declare parameters. Raises NodeError when one of them is not allowed."""
        super().__init__(**node_arguments)
        self._list_engines = list_engines
        self._last = SmplArray()

    def load(self) -> None:
        """Load the body models, and the temporal engines that parameter method asks for."""
        self.unload()
        self._body: BodyModel = load_body(self.parameters['body_model'])
        self._one_euro = OneEuroSmoother(self._body)
        self._whole_body = WholeBodySmoother(
            load_whole_body(self.parameters['whole_body_model']))
        # By the digest of the engine whose features they take.
        self._learned: dict[str, LearnedSmoother] = {}
        # Quantized engines give the features of the one that they were made from, nearly.
        self._made_from: dict[str, str] = {}
        self._why_none = 'parameter method says so'
        if self.parameters['method'] != 'one_euro':
            self._load_engines()
        self._current: BodySmoother = self._one_euro
        self._told: set[str] = set()
        names = ', '.join(smoother.engine_name for smoother in self._learned.values())
        self.diagnostics.facts.update(body_model=self._body.name, temporal_engines=names or 'none')
        self.get_logger().info(
            f'temporal engines: {names}' if names else f'method one_euro: {self._why_none}')

    def create_outputs(self) -> None:
        """Advertise the smoothed people."""
        self._publisher = self.create_lifecycle_publisher(
            SmplArray, 'smpl_smoothed', result_qos(), qos_overriding_options=overridable())

    def subscribe(self) -> None:
        """Listen to people; nobody is known yet."""
        for smoother in self._smoothers:
            smoother.reset()
        self.listen(SmplArray, 'smpl', self._on_people, result_qos())

    def process(self, item: SmplArray) -> None:
        """Smooth the people of one frame and publish them."""
        start = time.perf_counter()
        self._smooth(item)
        self._last = item
        self._publisher.publish(item)
        self.diagnostics.facts['persons'] = str(len(item.people))
        self.diagnostics.add_latency('smoothing', (time.perf_counter() - start) * 1e3)
        self.diagnostics.add_latency('end_to_end', self.age_ms(item.header.stamp))

    def farewell(self) -> None:
        """Publish that nobody is there any more."""
        whole = self._last.layout == SmplArray.LAYOUT_SMPLX
        body = self._whole_body.body if whole else self._body
        self._publisher.publish(SmplArray(
            header=self._last.header, body_model=body.name, body_model_sha256=body.sha256,
            layout=SmplArray.LAYOUT_SMPLX if whole else SmplArray.LAYOUT_SMPL))

    def _on_people(self, message: SmplArray) -> None:
        self.diagnostics.note_input()
        # No subscriber, no work.
        if self._publisher.get_subscription_count():
            self.submit(message)

    def _smooth(self, message: SmplArray) -> None:
        """Replace the people of `message`, or leave it as it is and say why."""
        try:
            camera, people = self._camera_of(message), people_from_message(message)
        except (NodeError, PerceptionError) as error:
            self._pass_on(str(error))
            return
        smoother = self._choose(message)
        people = smoother.smooth(people, camera, nanoseconds(message.header.stamp) * 1e-9)
        message.people = [person_to_message(person) for person in people]
        self._note_record(smoother)

    def _pass_on(self, reason: str) -> None:
        """Say why the people of a message stay as they are; in the log once for each reason."""
        self._note_method('none', reason)
        text = f'people are passed on unsmoothed: {reason}'
        self.diagnostics.complain(DiagnosticStatus.WARN, text)
        if reason not in self._told:
            self._told.add(reason)
            self.get_logger().warning(text)

    def _camera_of(self, message: SmplArray) -> Camera | None:
        """Return the camera of the people, None for nobody; NodeError if they cannot be read."""
        if not message.people:
            return None
        whole = message.layout == SmplArray.LAYOUT_SMPLX
        body = self._whole_body.body if whole else self._body
        if message.layout not in (SmplArray.LAYOUT_SMPL, SmplArray.LAYOUT_SMPLX):
            raise NodeError(f'layout is {message.layout}; expected LAYOUT_SMPL or LAYOUT_SMPLX')
        check_body(message, body, self.resolve_topic_name('smpl'))
        return camera_from_message(message)

    @property
    def _smoothers(self) -> list[BodySmoother]:
        return [self._one_euro, *self._learned.values(), self._whole_body]

    def _choose(self, message: SmplArray) -> BodySmoother:
        """Return the smoother for a message; one that takes over knows nobody."""
        learned = self._learned.get(
            self._made_from.get(message.engine_sha256, message.engine_sha256))
        if learned is not None:
            reason = f'there is an engine for the features of {message.engine}'
            self._note_method('learned', reason)
        else:
            reason = self._why_none if not self._learned else (
                f'no temporal engine was trained on the features of {message.engine} '
                f'({message.engine_sha256[:12]})')
            self._note_method('one_euro', reason)
            if self.parameters['method'] == 'learned' and message.people:
                self.complain('method', f'one_euro is used: {reason}; set temporal_engine to one '
                              'that was, or method to one_euro')
        smoother = learned or self._one_euro
        if message.layout == SmplArray.LAYOUT_SMPLX:
            smoother = self._whole_body
        if smoother is not self._current:
            smoother.reset()
            self._current = smoother
        smoother.settings = self._settings()
        return smoother

    def _settings(self) -> SmoothingSettings:
        filters = {name: OneEuroSettings(**self.parameters.group(f'one_euro.{name}'))
                   for name in ('rotation', 'position', 'shape', 'expression')}
        return SmoothingSettings(
            max_gap_s=self.parameters['max_gap_s'], max_tracks=self.parameters['max_tracks'],
            **filters)

    def _note_method(self, method: str, reason: str) -> None:
        self.diagnostics.facts.update(method=method, reason=reason)

    def _note_record(self, smoother: BodySmoother) -> None:
        record, counters = smoother.record, self.diagnostics.counters
        self.diagnostics.facts['tracks'] = str(smoother.tracks)
        counters['people_passed_on'] += record.passed
        counters['people_rejected'] += record.left_out
        counters['tracks_reset'] += record.resets
        rewinds = sum(smoother.rewinds for smoother in self._smoothers)
        if rewinds > counters['stamps_went_back']:
            self.complain('rewind', 'stamps went back (a bag that starts again, or a reset '
                          'simulation); all tracks start afresh')
        counters['stamps_went_back'] = rewinds
        if record.left_out:
            self.complain('finite', f'{record.left_out} people have numbers that are not finite '
                          'and were left out; check the node that publishes them')
        if record.passed:
            self.complain('passed', f'{record.passed} people were passed on unsmoothed: they have '
                          'no track id, one of somebody else, or no feature that the engine takes; '
                          'track them, and set publish_features where they come from')

    def _load_engines(self) -> None:
        """Load those that can be used; none at all is an error with method learned only."""
        self._why_none = 'the manifest has no temporal engine'
        chosen = self.parameters['temporal_engine']
        self._made_from = self._attempt(quantized_engines) or {}
        for name in [chosen] if chosen else self._attempt(self._list_engines) or []:
            self._attempt(lambda name=name: self._load_engine(name))
        if self.parameters['method'] == 'learned' and not self._learned:
            raise NodeError(f'{self._why_none}; parameter method is learned: name an engine that '
                            'can be used in temporal_engine, or set method to auto')

    def _attempt(self, work: Callable[[], Any]) -> Any:
        """Return what `work` returns; None, and a complaint, when an engine cannot be had."""
        try:
            return work()
        except (EngineError, PerceptionError, NodeError) as error:
            self._why_none = str(error)
            self.complain('engine', f'a temporal engine cannot be used: {error}')
            return None

    def _load_engine(self, name: str) -> None:
        engine = self.open_engine(name, self.parameters['max_tracks'])
        entry = getattr(engine, 'entry', None)
        if entry is None or not entry.features_of:
            raise NodeError(
                f'the manifest does not say on whose features the engine {name!r} was trained '
                '(features_of); give a temporal engine that has an entry')
        if entry.body_model_sha256 not in ('', self._body.sha256):
            raise NodeError(
                f'engine {name!r} was trained for the body model {entry.body_model!r} '
                f'({entry.body_model_sha256[:12]}), but {self._body.name!r} is loaded; set '
                'body_model alike')
        self._learned[entry.features_of] = LearnedSmoother(engine, self._body)


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [TemporalSmootherNode()], args)


if __name__ == '__main__':
    sys.exit(main())
