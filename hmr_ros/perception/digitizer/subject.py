# SPDX-License-Identifier: Apache-2.0
"""One person of a picture, digitized from head to foot: framing, networks, mesh, place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
import math
from pathlib import Path
import time

import numpy as np

from hmr_ros.perception.camera import Camera
from hmr_ros.perception.digitizer.alignment import check_facing
from hmr_ros.perception.digitizer.apart import poisson_mesh_apart
from hmr_ros.perception.digitizer.digitization import Digitization, digitize, Watch
from hmr_ros.perception.digitizer.framing import box_of, frame_person, Framing
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.digitizer.mesh import direct_mesh, Mesh
from hmr_ros.perception.digitizer.mesh_file import write_mesh
from hmr_ros.perception.digitizer.networks import Networks
from hmr_ros.perception.digitizer.placement import (
    place_at_distance, place_by_height, Placement)
from hmr_ros.perception.digitizer.poisson import OCTREE_DEPTHS
from hmr_ros.perception.digitizer.surface import stitched_cloud, Surface
from hmr_ros.perception.errors import PerceptionError

METHODS = ('direct', 'poisson')
#: about the share of the time that networks take, by the method that follows.
_NETWORKS_TAKE = {'direct': 0.9, 'poisson': 0.5}
_TORSO = (5, 6, 11, 12)
#: optical frame to x right, y up, z towards the camera, as GLB has its axes.
_UPRIGHT = np.float32([1, -1, -1])


@dataclass(frozen=True)
class Subject:
    """
    Somebody in a picture.

    image       (H, W, 3) uint8 RGB
    joints      in pixels of the image
    camera      of the image
    height_m    metres of the person, a guess; used where distance_m is None
    distance_m  metres from the camera to the middle of the body
    mask        (H, W) bool, where the person is; None takes the picture as it is
    """

    image: np.ndarray
    joints: Joints
    camera: Camera
    height_m: float
    distance_m: float | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Meshing:
    """
    How a surface becomes a mesh.

    method        one of METHODS
    octree_depth  of poisson, 3 to 12; 0 takes that of OCTREE_DEPTHS
    threads       of poisson; 0 takes the cores that are free
    """

    method: str = 'direct'
    octree_depth: int = 0
    threads: int = 0


@dataclass(frozen=True)
class DigitizedPerson:
    """
    Somebody as a mesh.

    mesh          vertices in metres in the optical frame of the camera
    digitization  what it was made of
    placement     from units of the digitization to metres
    milliseconds  by stage: those of digitization.STAGES, and mesh
    """

    mesh: Mesh
    digitization: Digitization
    placement: Placement
    milliseconds: dict[str, float]

    def thinned(self, most_faces: int) -> Mesh:
        """Mesh fewer of the pixels, for at most so many triangles; not of a Poisson mesh."""
        surface, image = self.digitization.surface, self.digitization.image
        # Each pixel has two triangles on both sides.
        step = max(1, math.isqrt(4 * int(surface.there.sum()) // most_faces))
        while True:
            thin = slice(None, None, step)
            mesh = direct_mesh(
                Surface(*(plane[thin, thin] for plane in (
                    surface.front, surface.back, surface.there))), image[thin, thin])
            if len(mesh.faces) <= most_faces:
                return _placed(mesh, self.placement)
            step += 1


class _Stopwatch:
    """A watch that keeps how long each stage took, and tells shares of the whole."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self.share = watch, 1.0
        self.milliseconds: dict[str, float] = {}
        self._stage, self._began = '', time.perf_counter()

    def __call__(self, stage: str, done: float) -> None:
        now = time.perf_counter()
        if self._stage:
            taken = self.milliseconds.get(self._stage, 0.0)
            self.milliseconds[self._stage] = taken + 1e3 * (now - self._began)
        self._stage, self._began = stage, now
        if stage:
            self._watch(stage, done * self.share)


def check_subject(joints: Joints, width: int, height: int, most_cut_off: float = 1.0) -> None:
    """
    Raise PerceptionError when somebody cannot be digitized, before any network runs.

    joints        in pixels of an image of `width` x `height` pixels
    most_cut_off  share of the person's box that may lie outside the image

    That is somebody seen from behind or from the side, cut off, or without a torso.
    """
    found = int(joints.found[list(_TORSO)].sum())
    if found < 3:
        raise PerceptionError(
            f'{found} of the four joints of the torso were found, 3 are needed; take an image '
            'that shows shoulders and hips')
    check_facing(joints)
    left, top, right, bottom = box_of(joints)
    seen = max(0.0, min(right, width) - max(left, 0)) * max(0.0, min(bottom, height) - max(top, 0))
    outside = 1 - seen / ((right - left) * (bottom - top))
    if outside > most_cut_off:
        raise PerceptionError(
            f'the person is cut off: {outside:.0%} of it would be outside the image, '
            f'{most_cut_off:.0%} may be. Step back, or raise the limit')


def digitize_person(
        subject: Subject, networks: Networks, meshing: Meshing, watch: Watch) -> DigitizedPerson:
    """
    Digitize somebody, and place the mesh before the camera.

    watch  is told stages and how much is done, 0 to 1; Cancelled that it raises goes through

    Raises PerceptionError as its parts do.
    """
    stopwatch = _Stopwatch(watch)
    stopwatch.share = _NETWORKS_TAKE[meshing.method]
    height, width = subject.image.shape[:2]
    framing = frame_person(box_of(subject.joints), width, height, networks.resolution)
    digitization = digitize(
        framing.square(subject.image), framing.joints(subject.joints), networks, stopwatch,
        None if subject.mask is None else framing.mask(subject.mask))
    done, stopwatch.share = stopwatch.share, 1.0
    stopwatch('mesh', done)
    placement = _placement_of(subject, framing, digitization.surface)
    mesh = _placed(_mesh_of(digitization, meshing, lambda: watch('mesh', done)), placement)
    stopwatch('', 1.0)
    return DigitizedPerson(mesh, digitization, placement, stopwatch.milliseconds)


def _placement_of(subject: Subject, framing: Framing, surface: Surface) -> Placement:
    if subject.distance_m is not None:
        return place_at_distance(framing, subject.camera, subject.distance_m)
    return place_by_height(framing, subject.camera, surface, subject.height_m)


def _mesh_of(
        digitization: Digitization, meshing: Meshing, check: Callable[[], None]) -> Mesh:
    surface, image = digitization.surface, digitization.image
    if meshing.method == 'direct':
        return direct_mesh(surface, image)
    depth = meshing.octree_depth or OCTREE_DEPTHS[len(image)]
    return poisson_mesh_apart(stitched_cloud(surface, image), depth, meshing.threads, check)


def _placed(mesh: Mesh, placement: Placement) -> Mesh:
    return replace(mesh, vertices=placement.vertices(mesh.vertices))


def is_watertight(mesh: Mesh) -> bool:
    """Tell whether every edge has exactly two triangles."""
    import trimesh
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight


def turned_up(mesh: Mesh) -> Mesh:
    """Turn a mesh of an optical frame to x right, y up, z towards the camera."""
    return replace(mesh, vertices=mesh.vertices * _UPRIGHT)


def save(mesh: Mesh, path: Path) -> None:
    """
    Write a mesh that is in an optical frame, whole or not at all.

    PLY keeps the frame: x right, y down, z forward. GLB is y up by definition, so y and z are
    turned over. Raises PerceptionError as `write_mesh` does.
    """
    shown = turned_up(mesh) if path.suffix.lower() == '.glb' else mesh
    write_mesh(path, shown.vertices, shown.faces, shown.colours)
