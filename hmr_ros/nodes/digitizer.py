# SPDX-License-Identifier: Apache-2.0
"""Node `digitizer`: turns one person of the newest frame into a mesh file when it is asked to."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import Any

import cv2
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker

from hmr_ros.msg import DigitizeProgress
from hmr_ros.nodes.camera_input import CameraInput
from hmr_ros.nodes.conversions import bgr_pixels
from hmr_ros.nodes.digitizer_jobs import (
    deletion, describe, file_name, free_path, Job, marker_of, TEXTS, writable)
from hmr_ros.nodes.digitizer_sight import PeopleReader, Sight, SightInput
from hmr_ros.nodes.engine_node import EngineNode, threads_for
from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.lifecycle import run_nodes
from hmr_ros.nodes.qos import latched_qos, overridable, result_qos
from hmr_ros.perception.digitizer.digitization import Cancelled
from hmr_ros.perception.digitizer.networks import EngineNetworks, Networks
from hmr_ros.perception.digitizer.subject import (
    check_subject, digitize_person, DigitizedPerson, Meshing, save, Subject)
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.runtime.digitizer import open_digitizer
from hmr_ros.srv import Digitize

HOW_TO_GET_ONE = (
    'hmr engines lists those there are. Train the networks (hmr train digitizer_2k2k CONFIG --out '
    'DIR) and export them (hmr export digitizer_2k2k DIR/weights.safetensors), or import the '
    "authors' checkpoint, and set parameter digitizer_engine")
# The largest batch: both halves of both arms.
_MAX_BATCH = 4
# Share of the whole that is done when the file is written.
_WRITING = 0.97


class DigitizerNode(EngineNode):
    """
    Answers `digitize` with a mesh file, and shows the mesh on `digitized_mesh`.

    The newest frame with people is kept. A call waits in a queue for the worker; its answer is
    sent when the worker is done, and nothing blocks the executor meanwhile. `cancel_digitize`,
    deactivate and shutdown end all calls, which are answered and leave no file.
    """

    TABLE = 'digitizer'
    INPUT = 'keypoints'
    # A stage of the networks at full size on a slow processor; all are left before their next.
    WORKER_TIMEOUT_S = 120.0

    def __init__(self, **node_arguments: Any) -> None:
        """Declare parameters. Raises NodeError when one of them is not allowed."""
        super().__init__(**node_arguments)
        self._camera_input = CameraInput(self)
        self._sights = SightInput(self)
        self._jobs: list[Job] = []
        self._shown = False
        # Awaited futures do not wake an executor.
        self._answered = self.create_guard_condition(lambda: None)
        self.diagnostics.counters.update(
            calls_refused=0, jobs_done=0, jobs_cancelled=0, jobs_refused=0, jobs_failed=0)

    def load(self) -> None:
        """Load the engines and the body models."""
        self.unload()
        if importlib.util.find_spec('trimesh') is None:
            raise NodeError("files of meshes need trimesh; pip install 'hmr_ros[digitizer]'")
        self._people = PeopleReader(
            self.parameters['body_model'], self.parameters['whole_body_model'])
        self._networks = self.open_networks()
        self.diagnostics.facts.update(
            engine=self.parameters['digitizer_engine'], resolution=str(self._networks.resolution))

    def open_networks(self) -> Networks:
        """Open all engines."""
        threads = threads_for(self.parameters['threads'])
        return EngineNetworks(open_digitizer(
            self.parameters['digitizer_engine'], open_engine=lambda name, *_: self.open_engine(
                name, _MAX_BATCH, threads, HOW_TO_GET_ONE)))

    def create_outputs(self) -> None:
        """Offer the services, and advertise progress and meshes."""
        self._progress = self.create_lifecycle_publisher(
            DigitizeProgress, 'digitize_progress', result_qos(),
            qos_overriding_options=overridable())
        self._marker = self.create_lifecycle_publisher(
            Marker, 'digitized_mesh', latched_qos(), qos_overriding_options=overridable())
        # Reentrant: a call that waits for its answer must not keep the others waiting.
        group = ReentrantCallbackGroup()
        self.create_service(Digitize, 'digitize', self._on_digitize, callback_group=group)
        self.create_service(Trigger, 'cancel_digitize', self._on_cancel, callback_group=group)

    def subscribe(self) -> None:
        """Listen to the camera, images, keypoints and bodies."""
        self._camera_input.listen()
        self._sights.listen()

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End all calls for good, though the node may be active again before a stage ends."""
        for job in list(self._jobs):
            job.ended_by = 'the node was deactivated meanwhile'
            job.cancelled.set()
        return super().on_deactivate(state)

    def farewell(self) -> None:
        """Delete the mesh that is shown."""
        if self._shown:
            self._marker.publish(deletion())
            self._shown = False

    # Calls -----------------------------------------------------------------------------------

    async def _on_digitize(
            self, request: Digitize.Request, response: Digitize.Response) -> Digitize.Response:
        try:
            job = self._job_of(request)
        except (NodeError, PerceptionError) as error:
            self.diagnostics.counters['calls_refused'] += 1
            self.complain(str(error)[:20], f'digitize was refused: {error}')
            response.message = str(error)
            return response
        self._tell(job, 'queued', 0.0, f'{len(self._jobs)} calls are before it')
        self._jobs.append(job)
        self._worker.submit(self._run, job)
        return await job.future

    def _on_cancel(
            self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        jobs = list(self._jobs)
        for job in jobs:
            job.cancelled.set()
        response.success = bool(jobs)
        response.message = (f'{len(jobs)} calls of digitize end before their next stage'
                            if jobs else 'no call of digitize is going on')
        return response

    def _job_of(self, request: Digitize.Request) -> Job:
        """Make what a call asks for. Raises NodeError or PerceptionError when that cannot be."""
        self._check_state(request)
        suffix = self._choice('format', request.format)
        meshing = Meshing(self._choice('method', request.method), self._octree_depth(),
                          self.parameters['threads'])
        sight = self._fresh_sight()
        seen = self._people.find(sight, request.track_id, self.resolve_topic_name('smpl'))
        width, height = sight.keypoints.image_width, sight.keypoints.image_height
        check_subject(seen.joints, width, height, self.parameters['max_cut_off'])
        camera = seen.camera or self._camera_input.camera_for(width, height)
        folder = writable(request.folder or self.parameters['output_folder'])
        path = free_path(folder / file_name(sight.header, seen.track_id, suffix),
                         [job.path for job in self._jobs])
        return Job(sight, seen, camera, path, meshing)

    def _check_state(self, request: Digitize.Request) -> None:
        if not self.is_active:
            raise NodeError(
                f'the node is not active; ros2 lifecycle set {self._full_name} activate')
        waiting, allowed = len(self._jobs) - 1, self.parameters['queue_size']
        if waiting >= allowed:
            raise NodeError(
                f'a person is being digitized and {waiting} calls wait; queue_size allows '
                f'{allowed}. Call again later, or cancel_digitize')
        side = self._networks.resolution
        if request.resolution not in (0, side):
            raise NodeError(
                f'resolution is {request.resolution}; these engines digitize images of {side} '
                'pixels. Ask for 0, or set digitizer_engine to engines of that size')

    def _choice(self, name: str, asked: str) -> str:
        """Return what a call asks for, or else a parameter says."""
        choices = self.parameters.spec(f'mesh_{name}').choices
        if asked and asked not in choices:
            raise NodeError(f'{name} is {asked!r}; allowed: {", ".join(choices)}')
        return asked or self.parameters[f'mesh_{name}']

    def _octree_depth(self) -> int:
        depth = self.parameters['octree_depth']
        if depth in (1, 2):
            raise NodeError(f'parameter octree_depth is {depth}; allowed: 0, or 3 to 12')
        return depth

    def _fresh_sight(self) -> Sight:
        sight, limit_s = self._sights.newest, self.parameters['max_age_s']
        if sight is None:
            topics = ', '.join(map(self.resolve_topic_name, ('image', 'keypoints')))
            raise NodeError(
                f'no frame with people has come yet on {topics} with one stamp; are the camera, '
                'person_detector and keypoints running, and does somebody stand before it?')
        age_s = 1e-3 * self.age_ms(sight.header.stamp)
        if age_s > limit_s:
            raise NodeError(
                f'the newest frame with people is {age_s:.1f} s old, max_age_s allows '
                f'{limit_s:g}; does somebody stand before the camera?')
        return sight

    # The worker ------------------------------------------------------------------------------

    def _run(self, job: Job) -> None:
        try:
            end = self._attempt(job)
            self.diagnostics.counters[f'jobs_{end}'] += 1
            self._jobs.remove(job)
            self._tell(job, end, 1.0, job.answer.message)
        finally:
            # Whoever called waits for ever otherwise, also where nothing can be published.
            job.future.set_result(job.answer)
            self._answered.trigger()

    def _attempt(self, job: Job) -> str:
        """Do a job, and fill in its answer; returns how it ended."""
        try:
            self._work(job)
        except Cancelled as error:
            job.answer.message = str(error)
            return 'cancelled'
        except (NodeError, PerceptionError) as error:
            job.answer.message = str(error)
            self.complain(job.answer.message[:20], job.answer.message)
            return 'refused'
        except Exception as error:  # noqa: B902 a worker must outlive any person
            job.answer.message = f'{type(error).__name__}: {error}'
            self._note_failure(error)
            return 'failed'
        self._failures_in_a_row = 0
        return 'done'

    def _work(self, job: Job) -> None:
        def watch(stage: str, done: float) -> None:
            self._check(job)
            if job.is_news(stage, done):
                self._tell(job, stage, done, TEXTS[stage])
        watch('image', 0.0)
        pixels = cv2.cvtColor(bgr_pixels(job.sight.image), cv2.COLOR_BGR2RGB)
        person = digitize_person(
            Subject(pixels, job.seen.joints, job.camera, self.parameters['person_height_m'],
                    job.seen.distance_m), self._networks, job.meshing, watch)
        watch('write', _WRITING)
        start = time.perf_counter()
        save(person.mesh, job.path)
        took = {**person.milliseconds, 'write': 1e3 * (time.perf_counter() - start)}
        for stage, milliseconds in took.items():
            self.diagnostics.add_latency(stage, milliseconds)
        self.diagnostics.facts['last file'] = str(job.path)
        describe(job, person, took)
        self._show(job, person)

    def _check(self, job: Job) -> None:
        """Raise Cancelled when the job is not wanted any more."""
        if job.cancelled.is_set():
            raise Cancelled(f'{job.ended_by}; there is no file')
        if self.interrupted.is_set():
            raise Cancelled('the node was deactivated meanwhile; there is no file')

    def _show(self, job: Job, person: DigitizedPerson) -> None:
        most = self.parameters['marker_faces']
        if not most:
            return
        try:
            self._marker.publish(marker_of(job.sight.header, person.thinned(most)))
        except PerceptionError as error:
            # The file is there all the same.
            self.complain('marker', f'the mesh is not shown, raise marker_faces: {error}')
        else:
            self._shown = True

    def _tell(self, job: Job, stage: str, done: float, text: str) -> None:
        self._progress.publish(DigitizeProgress(
            header=job.sight.header, track_id=job.seen.track_id, stage=stage, done=done,
            text=text))


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_nodes(lambda: [DigitizerNode()], args)


if __name__ == '__main__':
    sys.exit(main())
