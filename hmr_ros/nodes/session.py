# SPDX-License-Identifier: Apache-2.0
"""One run of the whole pipeline in this process, with a recorder: `hmr demo` and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
import resource
import time
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn

from hmr_ros.demo.errors import DemoError
from hmr_ros.demo.pictures import VideoFile
from hmr_ros.demo.session import SessionWriter
from hmr_ros.nodes.compat import init_without_signal_handlers
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import close_nodes, ManagedNode
from hmr_ros.nodes.parameters import TABLES
from hmr_ros.nodes.pipeline import make_nodes
from hmr_ros.nodes.recorder import RecorderNode, SessionCounts
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.video import VideoReader

VIDEO_NAME, RECORDING_NAME = 'overlay.mp4', 'session.mcap'
_FLOW = tuple(next(spec.default for spec in TABLES['pipeline'] if spec.name == 'nodes'))
_MATCHING_S, _DRAIN_S, _SPIN_S = 5.0, 1.5, 0.05
# Share of a run after which buffers have their size, and growth of memory is a leak.
_SETTLED = 0.2


@dataclass(frozen=True)
class SessionOptions:
    """
    What to run.

    source      video file, camera index, stream URL or folder of pictures
    duration_s  seconds to run; a file that is shorter ends the session
    folder      where the video and the recording go; None writes none
    parameters  node -> parameter -> value, on top of the nodes' defaults
    nodes       which nodes run; video_source must be among them
    """

    source: str
    duration_s: float
    folder: Path | None = None
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    nodes: tuple[str, ...] = _FLOW

    @property
    def people_topic(self) -> str:
        """The last topic of people: what is drawn and counted."""
        return 'smpl_smoothed' if 'temporal_smoother' in self.nodes else 'smpl'


@dataclass(frozen=True)
class SessionResult:
    """
    What happened.

    published, late  images published, and images that their source could not publish in time
    seconds          from the first to the last processed image, plus one frame
    stages           stage -> {'p50': ms, 'p95': ms}; `end_to_end` is from image stamp to mesh
    facts            of the mesh recovery node: engine, backend, precision, engine_sha256, ...
    cpu              processor cores in use, on average
    memory_mb        peak resident memory of the process
    memory_growth_mb resident memory at the end less that after the first fifth of the run
    """

    published: int
    late: int
    seconds: float
    counts: SessionCounts
    stages: dict[str, dict[str, float]]
    facts: dict[str, str]
    cpu: float
    memory_mb: float
    memory_growth_mb: float


@dataclass(frozen=True)
class Usage:
    """Processor cores in use on average, and growth of resident memory in MB after start-up."""

    cores: float
    memory_growth_mb: float


@dataclass(frozen=True)
class SessionProgress:
    """How far a session is: elapsed seconds, images processed, people in the newest one."""

    elapsed_s: float
    processed: int
    people: int


Tell = Callable[[SessionProgress], None]


def run_session(options: SessionOptions, tell: Tell = lambda progress: None) -> SessionResult:
    """
    Run the pipeline on a source; Ctrl-C ends it early and still gives the result.

    Raises DemoError when a node cannot start; the message is the node's own.
    """
    rate_hz = _source_rate(options.source)
    video = session = None
    if options.folder is not None:
        session = SessionWriter(options.folder / RECORDING_NAME)
        video = VideoFile(options.folder / VIDEO_NAME, rate_hz)
    init_without_signal_handlers(None)
    executor, nodes, recorder = SingleThreadedExecutor(), {}, None
    try:
        recorder = RecorderNode(session, video, options.people_topic)
        nodes = make_nodes(options.nodes, _parameters(options))
        for node in [recorder, *nodes.values()]:
            executor.add_node(node)
        usage = _play(options, nodes, recorder, executor, tell)
        result = _result(nodes, recorder, usage, rate_hz)
    except NodeError as error:
        raise DemoError(str(error)) from error
    finally:
        close_nodes(list(nodes.values()))
        if recorder is not None:
            recorder.finish()
            recorder.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
    return result


def _source_rate(source: str) -> float:
    try:
        reader = VideoReader(source)
    except PerceptionError as error:
        raise DemoError(str(error)) from error
    reader.close()
    return reader.frame_rate_hz


def _parameters(options: SessionOptions) -> dict[str, dict[str, Any]]:
    merged = {name: dict(values) for name, values in options.parameters.items()}
    merged.setdefault('video_source', {})['source'] = options.source
    return merged


def _play(
        options: SessionOptions, nodes: Mapping[str, ManagedNode], recorder: RecorderNode,
        executor: SingleThreadedExecutor, tell: Tell) -> Usage:
    """Start everything, run, and let the last image through; returns what it used."""
    source = nodes['video_source']
    for name, node in nodes.items():
        if node is not source and not node.start():
            raise DemoError(f'{name}: {node.diagnostics.blocked}')
    if source.trigger_configure() != TransitionCallbackReturn.SUCCESS:
        raise DemoError(f'video_source: {source.diagnostics.blocked}')
    topics = ('image', 'person_boxes', 'smpl', options.people_topic, 'mesh_markers')
    _wait_for_readers(source, topics + ('overlay',) * recorder.records_pictures, executor)
    usage, begin = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    settled_mb = None
    source.trigger_activate()
    try:
        while not source.finished and time.monotonic() - begin < options.duration_s:
            executor.spin_once(timeout_sec=_SPIN_S)
            counted, elapsed_s = recorder.counts.people, time.monotonic() - begin
            if settled_mb is None and elapsed_s > _SETTLED * options.duration_s:
                settled_mb = _resident_mb()
            tell(SessionProgress(elapsed_s, len(counted), next(reversed(counted.values()), 0)))
    except KeyboardInterrupt:
        pass
    used = _cpu_seconds(resource.getrusage(resource.RUSAGE_SELF)) - _cpu_seconds(usage)
    resident_mb = _resident_mb()
    result = Usage(used / (time.monotonic() - begin), resident_mb - (settled_mb or resident_mb))
    source.stop()
    _spin_for(executor, _DRAIN_S)
    return result


def _resident_mb() -> float:
    """Resident memory of this process in MB; 0 where the system does not tell."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except OSError:
        return 0.0
    return pages * resource.getpagesize() / 1e6


def _wait_for_readers(
        source: ManagedNode, topics: tuple[str, ...], executor: SingleThreadedExecutor) -> None:
    """Discovery takes a moment, and the first images must not be lost to it."""
    deadline = time.monotonic() + _MATCHING_S
    while time.monotonic() < deadline:
        executor.spin_once(timeout_sec=_SPIN_S)
        if all(source.count_publishers(topic) and source.count_subscribers(topic)
               for topic in topics):
            break
    _spin_for(executor, 0.5)


def _spin_for(executor: SingleThreadedExecutor, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=_SPIN_S)


def _cpu_seconds(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _result(
        nodes: Mapping[str, ManagedNode], recorder: RecorderNode, usage: Usage,
        rate_hz: float) -> SessionResult:
    stages = {}
    for name, node in nodes.items():
        for stage, values in node.diagnostics.summary()['latency_ms'].items():
            if stage != 'end_to_end':
                stages[stage] = values
            elif name == 'mesh_markers':
                stages['end_to_end'] = values
            elif name == 'mesh_recovery':
                stages['image_to_smpl'] = values
    counters = nodes['video_source'].diagnostics.counters
    stamps = sorted(recorder.counts.people)
    seconds = (stamps[-1] - stamps[0]) * 1e-9 + 1 / rate_hz if stamps else 0.0
    return SessionResult(
        published=counters['frames_processed'], late=counters['frames_dropped'], seconds=seconds,
        counts=recorder.counts, stages=stages, facts=dict(nodes['mesh_recovery'].diagnostics.facts),
        cpu=usage.cores,
        memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        memory_growth_mb=usage.memory_growth_mb)
