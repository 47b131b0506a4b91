# SPDX-License-Identifier: Apache-2.0
"""Every parameter of every node, in one table: type, default, range, and what it means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Union

from rcl_interfaces.msg import (
    FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult)
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from hmr_ros.nodes.errors import NodeError
from hmr_ros.perception.detection import HogSettings
from hmr_ros.perception.learned_detection import LearnedSettings
from hmr_ros.perception.one_euro import OneEuroSettings
from hmr_ros.perception.simcc import COUNTED_FROM, SCORE_MODES
from hmr_ros.perception.smoothing import SmoothingSettings

HOG, LEARNED, SMOOTHING = HogSettings(), LearnedSettings(), SmoothingSettings()
Value = Union[bool, int, float, str, list]


@dataclass(frozen=True)
class ParameterSpec:
    """
    One parameter; its type is the default's.

    `minimum` and `maximum` include their ends. `choices` are the allowed strings. A parameter that
    is not `dynamic` is read when the node starts and cannot be changed afterwards.
    """

    name: str
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False

    @property
    def allowed(self) -> str:
        """Return the allowed values in words."""
        if self.choices:
            return 'one of ' + ', '.join(self.choices)
        kind = type(self.default).__name__.replace('str', 'string').replace('list', 'strings')
        if self.minimum is None:
            return kind
        return f'{kind} from {self.minimum} to {self.maximum}'

    def problem_with(self, value: Value) -> str | None:
        """Return what is wrong with `value`, or None."""
        wrong = (
            type(value) is not type(self.default)
            or self.choices and value not in self.choices
            or self.minimum is not None and not self.minimum <= value <= self.maximum)
        if not wrong:
            return None
        return f'parameter {self.name} is {value!r}; allowed: {self.allowed}'

    def descriptor(self) -> ParameterDescriptor:
        """Return what `ros2 param describe` shows."""
        descriptor = ParameterDescriptor(
            description=self.description, read_only=not self.dynamic,
            additional_constraints=self.allowed if self.choices else '')
        if self.minimum is not None and isinstance(self.default, float):
            descriptor.floating_point_range = [FloatingPointRange(
                from_value=float(self.minimum), to_value=float(self.maximum), step=0.0)]
        elif self.minimum is not None:
            descriptor.integer_range = [IntegerRange(
                from_value=int(self.minimum), to_value=int(self.maximum), step=0)]
        return descriptor


P = ParameterSpec

COMMON = (
    P('autostart', True, 'configure and activate when the process starts'),
    P('input_timeout_s', 3.0, 'seconds without input after which diagnostics report an error',
      0.1, 600.0, dynamic=True),
    P('latency_budget_ms', 150.0, 'milliseconds from image stamp to output above which '
      'diagnostics warn', 1.0, 60000.0, dynamic=True),
    P('max_failures', 10, 'unexpected failures in a row after which the node deactivates itself',
      1, 1000, dynamic=True),
)
IMAGE = (
    P('image_transport', 'raw', 'how images arrive on the topic image',
      choices=('raw', 'compressed')),
)
TRACKING = (
    P('tracking.max_age_s', 1.5, 'seconds after its last detection when a track ends', 0.05, 60.0),
    P('tracking.coast_s', 0.6, 'seconds that boxes are published without a detection', 0.0, 60.0),
    P('tracking.min_hits', 3, 'detections before a track is published', 1, 100),
    P('tracking.min_overlap', 0.25, 'least intersection over union that continues a track',
      0.01, 0.99),
    P('tracking.max_tracks', 64, 'most tracks', 1, 10000),
)

BODY = (
    P('body_model', 'open_body', 'name of a shipped body model, or path of an SMPL file'),
)
WHOLE_BODY = (
    P('whole_body_model', 'open_whole_body', 'body model of people with hands and faces: name of '
      'a shipped one, or path of an SMPL-X file'),
)
BACKEND = (
    P('backend', 'auto', 'what runs the engine',
      choices=('auto', 'onnxruntime', 'packed', 'tensorrt', 'torch')),
    P('precision', 'auto', 'numbers the engine computes with; auto: fp16 by tensorrt, int8 on a '
      'processor where the engine was quantized, else fp32',
      choices=('auto', 'fp32', 'fp16', 'int8')),
    P('allow_engine_build', True, 'build an engine for TensorRT at configure, for minutes, when '
      'none was built for this GPU (hmr engines build)'),
)
THREADS = (
    P('threads', 0, 'processor cores of one call of the engine; 0: half of those that the '
      'process may use, at most 4', 0, 256),
)
KEYPOINTS = (
    P('keypoint_engine', 'mgil', 'engine of 2D keypoints: name in engines/manifest.yaml, or path '
      'of an engine file'),
    P('score_mode', 'auto', 'confidence of a keypoint, of its peaks along x and y: auto as the '
      'engine says, max for engines trained with label smoothing, min for Gaussian labels',
      choices=('auto', *SCORE_MODES)),
    P('min_keypoint_score', COUNTED_FROM, 'lowest confidence of a keypoint that counts as found',
      0.0, 1.0, dynamic=True),
)
CAMERA = (
    P('fallback_fov_deg', 55.0, 'vertical field of view in degrees of cameras without '
      'calibration; 0: skip their frames', 0.0, 170.0, dynamic=True),
    P('image_is_rectified', False, 'use the projection matrix P of camera_info instead of K'),
)
BOXES = (
    P('max_people', 32, 'most people per frame, the best scores first', 1, 1000),
    P('paired_images', 10, 'images kept until their boxes or people arrive', 1, 200),
)


def _one_euro(
        name: str, what: str, unit: str, settings: OneEuroSettings) -> tuple[ParameterSpec, ...]:
    """Return the parameters of one filter of `temporal_smoother`."""
    return (
        P(f'one_euro.{name}.min_cutoff_hz', settings.min_cutoff_hz,
          f'cutoff in Hz for {what} at rest; lower is steadier', 0.001, 1000.0, dynamic=True),
        P(f'one_euro.{name}.speed_weight', settings.speed_weight,
          f'Hz that the cutoff rises per {unit}; higher lags less', 0.0, 1000.0, dynamic=True),
        P(f'one_euro.{name}.speed_cutoff_hz', settings.speed_cutoff_hz,
          f'cutoff in Hz for the speed of {what}', 0.001, 1000.0, dynamic=True),
    )


TABLES: dict[str, tuple[ParameterSpec, ...]] = {
    'video_source': COMMON + (
        P('source', '', 'video file, camera index, stream URL or folder of pictures'),
        P('frame_id', 'camera_optical_frame', 'frame of the camera: x right, y down, z forward'),
        P('camera_info_file', '', 'calibration in camera_calibration YAML; empty: uncalibrated'),
        P('rate_hz', 0.0, 'frames per second; 0: as recorded, or as the camera gives them',
          0.0, 1000.0),
        P('pacing', 'realtime', 'realtime: as recorded, late frames are dropped; '
          'as_fast_as_possible: stamped when they are read',
          choices=('realtime', 'as_fast_as_possible')),
        P('loop', False, 'start again at the end of a file or folder'),
        P('reopen_s', 2.0, 'seconds between attempts to open a camera or stream that is gone',
          0.05, 3600.0, dynamic=True),
    ),
    'person_detector': COMMON + IMAGE + (
        P('between_detections', 'predict', 'images that come while the detector is at work: '
          'predict gives all images the boxes of tracks that move on, at once; drop gives boxes '
          'only to images that were searched', choices=('predict', 'drop'), dynamic=True),
        P('detector_method', 'hog', "hog: OpenCV's people detector, no engine; learned: a network",
          choices=('hog', 'learned')),
        P('detector_engine', 'mgil_detector',
          'of learned: name in engines/manifest.yaml, or path of an engine file'),
        *BACKEND,
        *THREADS,
        P('detector.min_person', HOG.min_person, 'of hog: smallest person, part of the image '
          'height', 0.02, 1.0),
        P('detector.min_weight', HOG.min_weight, 'of hog: lowest support vector weight that counts',
          -1.0, 5.0),
        P('detector.min_hits', HOG.min_hits, 'of hog: fewest overlapping windows that count', 1,
          50),
        P('detector.scan_frames', HOG.scan_frames,
          'of hog: frames after which every place has been searched', 1, 6),
        P('detector.max_people', HOG.max_people, 'most people per frame', 1, 1000),
        P('learned_detector.min_score', LEARNED.min_score, 'lowest score that counts', 0.0, 1.0),
        P('learned_detector.max_overlap', LEARNED.max_overlap, 'intersection over union with a '
          'better box up to which one is somebody else', 0.0, 1.0),
        P('learned_detector.min_person', LEARNED.min_person,
          'smallest person, part of the image height', 0.0, 1.0),
        P('tracking.birth_score', 0.9, 'of hog: mean score of detections before a track is '
          'published', 0.0, 1.0),
    ) + TRACKING,
    'detection_bridge': COMMON + (
        P('person_class_ids', ['person', '0'], 'class ids of people, as the detector writes them',
          dynamic=True),
        P('min_score', 0.0, 'lowest score that counts', 0.0, 1.0, dynamic=True),
        P('track', True, 'track people of a detector that gives no ids'),
    ) + TRACKING,
    'mesh_recovery': COMMON + IMAGE + (
        P('engine', 'keypoint_guided', 'name in engines/manifest.yaml, or path of an engine file'),
        P('engine.near', '', 'the same for people who are large in the image; empty: engine'),
        P('engine.far', '', 'the same for people who are small in the image; empty: engine'),
        P('engine.far_below_px', 64.0, 'height of a person box below which engine.far takes over; '
          'tracks change 10 % beyond it', 1.0, 10000.0, dynamic=True),
        *BACKEND,
        *THREADS,
        *BODY,
        *WHOLE_BODY,
        *CAMERA,
        *BOXES,
        P('publish_features', True, 'fill SmplPerson.feature for a temporal smoother',
          dynamic=True),
        P('refine', 'none', 'keypoints: turn and shift bodies as a whole until they show their '
          'joints at 2D keypoints, which keypoint_engine finds in every frame',
          choices=('none', 'keypoints')),
        *KEYPOINTS,
    ),
    'keypoints': COMMON + IMAGE + (
        *KEYPOINTS,
        *BACKEND,
        *THREADS,
        *BOXES,
    ),
    'temporal_smoother': COMMON + (
        P('method', 'auto', 'learned: a temporal engine, one_euro where none fits the features; '
          'one_euro: a filter, no engine; auto: learned when there is an engine',
          choices=('auto', 'learned', 'one_euro')),
        P('temporal_engine', '', 'name in engines/manifest.yaml, or path of an engine file beside '
          'a manifest; empty: all temporal engines of the manifest'),
        *BACKEND,
        *BODY,
        *WHOLE_BODY,
        P('max_gap_s', SMOOTHING.max_gap_s, 'seconds without a track after which it starts afresh',
          0.0, 60.0, dynamic=True),
        P('max_tracks', SMOOTHING.max_tracks, 'most tracks that are remembered', 1, 10000,
          dynamic=True),
        *_one_euro('rotation', 'joint rotations', 'rad/s', SMOOTHING.rotation),
        *_one_euro('position', 'the pelvis in the camera', 'm/s', SMOOTHING.position),
        *_one_euro('shape', 'shape coefficients', '1/s', SMOOTHING.shape),
        *_one_euro('expression', 'expression coefficients', '1/s', SMOOTHING.expression),
    ),
    'mesh_markers': COMMON + IMAGE + BODY + WHOLE_BODY + (
        P('max_rate_hz', 30.0, 'most mesh messages per second; each person is 1 to 2 MB',
          0.1, 1000.0, dynamic=True),
        P('mesh', True, 'publish meshes', dynamic=True),
        P('skeleton', True, 'publish skeletons', dynamic=True),
        P('labels', True, 'publish track ids as text', dynamic=True),
        P('keypoints', True, 'draw 2D keypoints on the overlay when they are published',
          dynamic=True),
        P('opacity', 0.9, 'opacity of meshes, 0 to 1', 0.0, 1.0, dynamic=True),
        P('lifetime_s', 0.5, 'seconds a marker stays when nothing more arrives', 0.05, 60.0,
          dynamic=True),
        P('paired_images', 10, 'images kept until their boxes or people arrive', 1, 200),
    ),
    'digitizer': COMMON + IMAGE + (
        P('digitizer_engine', 'digitizer_2k2k', 'engines: how their names in '
          'engines/manifest.yaml begin, before _low, _head and so on; or how the paths of their '
          'ONNX files do'),
        *BACKEND,
        *THREADS,
        *BODY,
        *WHOLE_BODY,
        *CAMERA,
        P('output_folder', '~/.ros/digitized', 'folder of mesh files of calls that name none'),
        P('mesh_format', 'glb', 'of files, where a call names none: ply in the optical frame, '
          'glb with y up', choices=('glb', 'ply'), dynamic=True),
        P('mesh_method', 'direct', 'of meshes, where a call names none; direct: of pixels, at once; '
          'poisson: smooth, within a minute, needs the extra digitizer',
          choices=('direct', 'poisson'), dynamic=True),
        P('octree_depth', 0, 'of poisson, 3 to 12, a level more halves the grid; 0: what suits '
          'the image size', 0, 12, dynamic=True),
        P('person_height_m', 1.7, 'metres of people whose distance is unknown, because nobody '
          'publishes smpl', 0.3, 2.7, dynamic=True),
        P('queue_size', 2, 'calls that may wait while another one is worked on; more are refused',
          0, 100, dynamic=True),
        P('max_age_s', 3.0, 'seconds after which the newest frame with people is too old',
          0.05, 3600.0, dynamic=True),
        P('max_cut_off', 0.1, 'most of a person that may be outside the image', 0.0, 1.0,
          dynamic=True),
        P('marker_faces', 40000, 'most triangles of the marker; 0: none is published', 0, 1000000,
          dynamic=True),
        P('paired_images', 10, 'images kept until their boxes or people arrive', 1, 200),
    ),
    'pipeline': (
        P('nodes', ['video_source', 'person_detector', 'mesh_recovery', 'temporal_smoother',
                    'mesh_markers'],
          'nodes that run in this process'),
    ),
}


class NodeParameters:
    """Declares a table on a node, checks values at start and on change, and reads them."""

    def __init__(self, node: Node, specs: Iterable[ParameterSpec]) -> None:
        """Declare `specs`. Raises NodeError when a value given at start is not allowed."""
        self._node = node
        self._specs = {spec.name: spec for spec in specs}
        for spec in self._specs.values():
            self._declare(spec)
        node.add_on_set_parameters_callback(self._check)

    def __getitem__(self, name: str) -> Value:
        """Return the present value of a parameter."""
        return self._node.get_parameter(name).value

    def spec(self, name: str) -> ParameterSpec:
        """Return what is allowed for a parameter."""
        return self._specs[name]

    def group(self, prefix: str) -> dict[str, Value]:
        """Return the parameters below `prefix`, by the rest of their names."""
        names = (name for name in self._specs if name.startswith(prefix + '.'))
        return {name[len(prefix) + 1:]: self[name] for name in names}

    def _declare(self, spec: ParameterSpec) -> None:
        try:
            value = self._node.declare_parameter(spec.name, spec.default, spec.descriptor()).value
        except ParameterException as error:
            given = self._node._parameter_overrides.get(spec.name)
            value = getattr(given, 'value', None)
            hint = ' (write doubles with a point)' if isinstance(spec.default, float) else ''
            raise NodeError(f'node {self._node.get_name()}: parameter {spec.name} is {value!r}; '
                            f'allowed: {spec.allowed}{hint}') from error
        problem = spec.problem_with(value)
        if problem:
            raise NodeError(f'node {self._node.get_name()}: {problem}')

    def _check(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        known = [(self._specs[p.name], p.value) for p in parameters if p.name in self._specs]
        problems = [p for p in (spec.problem_with(value) for spec, value in known) if p]
        return SetParametersResult(successful=not problems, reason='; '.join(problems))
