# SPDX-License-Identifier: Apache-2.0
"""One person of a picture as a mesh file: what `hmr digitize` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
import time

import cv2
import numpy as np

from hmr_ros.body import load_body
from hmr_ros.demo.errors import DemoError
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.digitizer.body_joints import BodyJoints
from hmr_ros.perception.digitizer.digitization import Watch
from hmr_ros.perception.digitizer.framing import box_of
from hmr_ros.perception.digitizer.joints import completed, Joints, JOINTS
from hmr_ros.perception.digitizer.networks import EngineNetworks
from hmr_ros.perception.digitizer.openpose import read_openpose
from hmr_ros.perception.digitizer.subject import (
    check_subject, digitize_person, DigitizedPerson, is_watertight, Meshing, save, Subject,
    turned_up)
from hmr_ros.perception.digitizer.turntable import turntable
from hmr_ros.perception.keypoints2d import KeypointFinder
from hmr_ros.perception.learned_detection import LearnedPersonDetector
from hmr_ros.perception.person import Person, PersonBox
from hmr_ros.perception.recoveries import recovery_for
from hmr_ros.perception.simcc import COUNTED_FROM
from hmr_ros.runtime import Engine, load_fastest
from hmr_ros.runtime.digitizer import open_digitizer

#: metres of people whose height nobody knows and whose body cannot be recovered.
USUAL_HEIGHT_M = 1.7
TURNTABLE = 'turntable.jpg'
_JPEG_QUALITY = 92
#: of the longer side; with the second one people who fill a picture are as small as the detector
#: knows them.
_MARGINS, _GREY = (0.0, 0.5), (114, 114, 114)


@dataclass(frozen=True)
class DigitizeOptions:
    """
    What to digitize, and how.

    picture    file of a picture with one person, or of whom the largest is meant
    folder     where the files go; made when it is not there
    keypoints  file of OpenPose; None finds the person and its joints
    mask       file of a picture that is brighter than half where the person is
    height_m   metres of the person; None takes the distance of the body that is recovered
    suffix     of the mesh: glb or ply
    engine     how the names of the digitizer's engines begin
    fov_deg    vertical field of view of the camera
    """

    picture: Path
    folder: Path
    keypoints: Path | None = None
    mask: Path | None = None
    height_m: float | None = None
    suffix: str = 'glb'
    engine: str = 'digitizer_2k2k'
    fov_deg: float = 55.0
    threads: int = 1
    meshing: Meshing = Meshing()


@dataclass(frozen=True)
class DigitizedPicture:
    """
    What was made.

    mesh_file, turntable_file  written
    watertight                 whether every edge of the mesh has two triangles
    milliseconds               by stage
    """

    person: DigitizedPerson
    mesh_file: Path
    turntable_file: Path
    watertight: bool
    milliseconds: dict[str, float]

    def report(self) -> dict[str, object]:
        """Facts for people and programs; sizes in metres along right, down and forward."""
        mesh, alignment = self.person.mesh, self.person.digitization.alignment
        return {
            'file': str(self.mesh_file), 'turntable': str(self.turntable_file),
            'vertices': len(mesh.vertices), 'faces': len(mesh.faces),
            'watertight': self.watertight,
            'size_m': [round(float(extent), 4) for extent in np.ptp(mesh.vertices, axis=0)],
            'distance_m': round(self.person.placement.distance_m, 4),
            'dropped_parts': dict(alignment.dropped), 'resolution': alignment.resolution,
            'milliseconds': {name: round(ms, 2) for name, ms in self.milliseconds.items()}}


def digitize_picture(options: DigitizeOptions, watch: Watch) -> DigitizedPicture:
    """
    Digitize the largest person of a picture, and write the mesh and pictures of it.

    watch  is told stages and how much is done, 0 to 1

    Raises DemoError for files that cannot be read, and the errors of its parts.
    """
    image = _read(options.picture, cv2.IMREAD_COLOR)
    mask = None if options.mask is None else _mask_for(image, options.mask)
    times: dict[str, float] = {}
    watch('find', 0.0)
    with _timed(times, 'find'):
        subject = _subject_of(options, image, mask)
    height, width = image.shape[:2]
    check_subject(subject.joints, width, height)
    with _timed(times, 'load'):
        engines = open_digitizer(
            options.engine, threads=options.threads, open_engine=load_fastest)
    try:
        person = digitize_person(
            subject, EngineNetworks(engines), options.meshing,
            lambda stage, done: watch(stage, 0.1 + 0.8 * done))
    finally:
        for engine in engines.values():
            engine.close()
    watch('write', 0.9)
    return _written(options, person, {**times, **person.milliseconds})


def _written(
        options: DigitizeOptions, person: DigitizedPerson,
        times: dict[str, float]) -> DigitizedPicture:
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f'folder {options.folder} cannot be made ({error.strerror})') from error
    path = options.folder / f'{options.picture.stem}.{options.suffix}'
    shown = options.folder / TURNTABLE
    with _timed(times, 'write'):
        save(person.mesh, path)
    with _timed(times, 'turntable'):
        strip = turntable(turned_up(person.mesh))
        if not cv2.imwrite(str(shown), strip[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)):
            raise DemoError(f'{shown} cannot be written; choose another folder')
    return DigitizedPicture(person, path, shown, is_watertight(person.mesh), times)


def _subject_of(
        options: DigitizeOptions, image: np.ndarray, mask: np.ndarray | None) -> Subject:
    """Find out where the person's joints are and how far away it stands."""
    height, width = image.shape[:2]
    camera = Camera.from_fov(width, height, options.fov_deg)
    given = None if options.keypoints is None else read_openpose(options.keypoints)
    box = _largest(image) if given is None else PersonBox(np.float32(box_of(given)))
    body, distance_m = _body_in(image, box, camera), None
    # Joints of recovered bodies are nearer to the truth than keypoints of the shipped engine.
    joints = given or Joints(np.full((len(JOINTS), 2), np.nan))
    if body is not None:
        joints = completed(joints, BodyJoints(load_body()).of(body, camera))
        distance_m = float(np.linalg.norm(body.joints3d[0]))
    if given is None:
        joints = completed(joints, _joints_in(image, box))
    subject = Subject(
        np.ascontiguousarray(image[..., ::-1]), joints, camera, options.height_m or USUAL_HEIGHT_M,
        distance_m, mask)
    return subject if options.height_m is None else replace(subject, distance_m=None)


def _largest(image: np.ndarray) -> PersonBox:
    with _opened('mgil_detector') as engine:
        detector = LearnedPersonDetector(engine)
        people = [person for share in _MARGINS for person in _detected(detector, image, share)]
    if not people:
        raise DemoError(
            'nobody was found in the picture; give one that shows a person from head to foot, or '
            'the joints of OpenPose with --keypoints')
    return max(people, key=lambda person: np.prod(person.box[2:] - person.box[:2]))


def _detected(
        detector: LearnedPersonDetector, image: np.ndarray, share: float) -> list[PersonBox]:
    """Find people in a picture with a margin of a share of its longer side."""
    margin = int(share * max(image.shape))
    framed = cv2.copyMakeBorder(image, *[margin] * 4, cv2.BORDER_CONSTANT, value=_GREY)
    return [replace(person, box=person.box - np.float32(margin))
            for person in detector.detect(framed)]


def _joints_in(image: np.ndarray, box: PersonBox) -> Joints:
    with _opened('mgil') as engine:
        person, = KeypointFinder(engine).find(image, 'bgr', [box], COUNTED_FROM)
    return Joints.from_coco17(np.column_stack([person.keypoints, person.confidence]))


def _body_in(image: np.ndarray, box: PersonBox, camera: Camera) -> Person | None:
    with _opened('keypoint_guided') as engine:
        people = recovery_for(engine, load_body(), 1).recover(image, 'bgr', camera, [box])
    return people[0] if people else None


@contextmanager
def _opened(name: str) -> Iterator[Engine]:
    engine = load_fastest(name)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def _timed(times: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    times[stage] = 1e3 * (time.perf_counter() - start)


def _mask_for(image: np.ndarray, path: Path) -> np.ndarray:
    mask = _read(path, cv2.IMREAD_GRAYSCALE) > 127
    if mask.shape != image.shape[:2]:
        raise DemoError(
            f'mask {path} has {mask.shape[1]}x{mask.shape[0]} pixels; expected '
            f'{image.shape[1]}x{image.shape[0]}, those of the picture')
    return mask


def _read(path: Path, mode: int) -> np.ndarray:
    if not path.is_file():
        raise DemoError(f'there is no file {path}; give the path of a picture')
    image = cv2.imread(str(path), mode)
    if image is None:
        raise DemoError(f'{path} is no picture that OpenCV reads; expected JPEG or PNG')
    return image
