# SPDX-License-Identifier: Apache-2.0
"""Bodies turned and shifted as a whole until they show their joints at 2D keypoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
import functools
from typing import Sequence

import numpy as np

from hmr_ros.body.coco import face_vertices, LIMBS
from hmr_ros.body.model import BodyModel
from hmr_ros.perception import rotations
from hmr_ros.perception.camera import Camera, NEAREST_M
from hmr_ros.perception.crops import MARGIN
from hmr_ros.perception.keypoint_guided import NEAR
from hmr_ros.perception.person import Person, PersonKeypoints
from hmr_ros.perception.posing import smpl_pose

_DAMPING, _EASED, _TIGHTENED = 1e-2, 0.2, 10.0
#: a body never comes nearer or goes farther than by this factor.
_MOST_DEPTH_CHANGE = 2.0
#: chance of a joint of keypoint_guided's to be right, and how much less or more trust is possible.
_USUAL_CHANCE, _TRUSTS = 0.9, (0.2, 5.0)
_CHANCES, _MOST_SPREAD = (0.05, 0.999), 0.1
_IDENTITY = np.eye(3)


@dataclass(frozen=True)
class RefinementSettings:
    """
    How bodies are refined.

    least       fewest keypoints of a person, else the body stays as it was
    tolerance   error, as a share of the person's size in the image, from which on a keypoint is
                rather wrong itself than the body
    doubt       a person's keypoints count half when they are farther from the body by this than its
                network expects of itself, root mean square, as a share of the size: then either is
                wrong, and keypoints of one network are often wrong alike
    turn_trust, place_trust, depth_trust
                bodies are held near where they were, for one picture says badly how they are
                turned and how far away they are, and keypoints may all be off alike: weights of
                where a turn brings the points, of shifts across, both as shares of the size, and
                of relative depth, beside those of keypoints
    steps       of the solver, always as many
    """

    least: int = 6
    tolerance: float = 0.2
    doubt: float = 0.08
    turn_trust: float = 1.0
    place_trust: float = 5.0
    depth_trust: float = 1.0
    steps: int = 4


@dataclass(frozen=True)
class Sight:
    """
    What is seen of N bodies; float64.

    offsets (N, K, 3)  of points of the bodies from their pivots, metres, axes of the optical frame
    pivots  (N, 3)     what they turn about, metres in the optical frame
    rays    (N, K, 2)  where the points are seen: (pixel - principal point) / focal length
    weights (N, K)     trust in that, 0 to 1; 0 where a point is not seen
    sizes   (N,)       of the people, in units of `rays`
    trusts  (N,)       in the bodies as they are, 1 for the usual one
    expected (N,)      errors of the bodies' points that are to be expected, root mean square, as
                       shares of the sizes
    """

    offsets: np.ndarray
    pivots: np.ndarray
    rays: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray
    trusts: np.ndarray
    expected: np.ndarray

    @functools.cached_property
    def spreads(self) -> np.ndarray:
        """Sums `(N,)` of the squared offsets."""
        return np.einsum('nkc,nkc->n', self.offsets, self.offsets)


@dataclass(frozen=True)
class Moves:
    """
    How N bodies are to be moved: turned about their pivots, then shifted; float64.

    turns (N, 3, 3), shifts (N, 3) metres, better (N,) whether that lowers the cost; where not,
    the move is none.
    """

    turns: np.ndarray
    shifts: np.ndarray
    better: np.ndarray


@dataclass(frozen=True)
class _Holds:
    """
    What the costs of moves are made of, besides `Sight`.

    turn (N,) of a square metre by which a turn moves a point, shift (N, 3) of a squared unit of
    `_Pose.shifts`; tolerance of RefinementSettings
    """

    turn: np.ndarray
    shift: np.ndarray
    tolerance: float

    @classmethod
    def of(cls, sight: Sight, settings: RefinementSettings) -> _Holds:
        """Scale the trusts of the settings for each person."""
        metres = sight.sizes * sight.pivots[:, 2]
        across = settings.place_trust * sight.trusts / sight.sizes ** 2
        return cls(
            settings.turn_trust * sight.trusts / (sight.offsets.shape[1] * metres ** 2),
            np.stack([across, across, settings.depth_trust * sight.trusts], axis=1),
            settings.tolerance)


@dataclass(frozen=True)
class _Pose:
    """
    N bodies that were moved: turns (N, 3, 3), shifts (N, 3) in units of their pivots' depths.

    offsets (N, K, 3) from the pivots in metres, depths (N, K, 1) in metres, rays (N, K, 2) and
    errors (N, K, 2) as shares of the people's sizes; trusts (N, K) in keypoints of such errors,
    costs (N,)
    """

    turns: np.ndarray
    shifts: np.ndarray
    offsets: np.ndarray
    depths: np.ndarray
    rays: np.ndarray
    errors: np.ndarray
    trusts: np.ndarray
    costs: np.ndarray


def fit_moves(sight: Sight, settings: RefinementSettings = RefinementSettings()) -> Moves:
    """
    Turn and shift bodies so that their points are where they are seen.

    Levenberg and Marquardt's steps on the cost of Geman and McClure, to which a keypoint at a
    wrong place adds little, all bodies at once; a step that does not lower a body's cost is not
    taken.
    """
    count, holds = len(sight.offsets), _Holds.of(sight, settings)
    still = np.tile(_IDENTITY, (count, 1, 1)), np.zeros((count, 3))
    sight = _doubted(sight, _posed(sight, holds, *still), settings)
    pose = first = _posed(sight, holds, *still)
    damping = np.full((count, 1), _DAMPING)
    for _ in range(settings.steps):
        gradient, curvature = _slope(sight, holds, pose)
        diagonal = np.einsum('nii->ni', curvature)
        diagonal += damping * diagonal
        step = np.linalg.solve(curvature, -gradient[..., None])[..., 0]
        trial = _posed(
            sight, holds, _small_turns(step[:, :3]) @ pose.turns, pose.shifts + step[:, 3:])
        falls = trial.costs < pose.costs
        pose = trial if falls.all() else _chosen(falls, trial, pose)
        damping *= np.where(falls, _EASED, _TIGHTENED)[:, None]
    # Who stood where nobody can stand is not to be believed anywhere else either.
    better = (pose.costs < first.costs) & np.isfinite(first.costs)
    return Moves(pose.turns, pose.shifts * sight.pivots[:, 2:], better)


def _doubted(sight: Sight, pose: _Pose, settings: RefinementSettings) -> Sight:
    """Weaken keypoints that are farther from a person than they should be."""
    squares = np.einsum('nkc,nkc->nk', pose.errors, pose.errors)
    found = np.sum(sight.weights * np.minimum(squares, settings.tolerance ** 2), axis=1)
    total = np.maximum(np.sum(sight.weights, axis=1), 1e-6)
    excess = np.maximum(found / total - sight.expected ** 2, 0)
    return replace(
        sight, weights=sight.weights / (1 + excess / settings.doubt ** 2)[:, None])


def _small_turns(vectors: np.ndarray) -> np.ndarray:
    """
    Rotation matrices `(N, 3, 3)` that begin as those of the rotation vectors `(N, 3)` do.

    Cayley's map of half the vectors: exact rotations, without sines.
    """
    half = 0.5 * rotations.skew(vectors)
    length = 0.25 * np.einsum('nc,nc->n', vectors, vectors)
    return _IDENTITY + (2 / (1 + length))[:, None, None] * (half + half @ half)


def _posed(sight: Sight, holds: _Holds, turns: np.ndarray, shifts: np.ndarray) -> _Pose:
    offsets = sight.offsets @ np.swapaxes(turns, 1, 2)
    placed = offsets + (sight.pivots + shifts * sight.pivots[:, 2:])[:, None]
    depths = np.maximum(placed[..., 2:], NEAREST_M)
    rays = placed[..., :2] / depths
    errors = (rays - sight.rays) / sight.sizes[:, None, None]
    squares = np.einsum('nkc,nkc->nk', errors, errors)
    shares = 1 / (1 + squares / holds.tolerance ** 2)
    # Rotations keep lengths, so this is the sum of squared differences from the first offsets.
    moved = 2 * (sight.spreads - np.einsum('nkc,nkc->n', offsets, sight.offsets))
    costs = (np.einsum('nk,nk,nk->n', sight.weights, squares, shares)
             + holds.turn * moved + np.einsum('nc,nc,nc->n', holds.shift, shifts, shifts))
    wild = (np.abs(np.log2(np.maximum(1 + shifts[:, 2], 0.01))) > np.log2(_MOST_DEPTH_CHANGE)) | (
        placed[..., 2].min(axis=1) < NEAREST_M)
    return _Pose(turns, shifts, offsets, depths, rays, errors, sight.weights * shares ** 2,
                 np.where(wild, np.inf, costs))


def _slope(sight: Sight, holds: _Holds, pose: _Pose) -> tuple[np.ndarray, np.ndarray]:
    """Half the gradient `(N, 6)` of the costs by turn and shift, and half of Gauss's Hessian."""
    count = len(sight.sizes)
    jacobian = errors_by_moves(sight, pose.offsets, pose.depths, pose.rays)
    weighted = (jacobian * pose.trusts[..., None, None]).reshape(count, -1, 6)
    transposed = np.swapaxes(weighted, 1, 2)
    gradient = (transposed @ pose.errors.reshape(count, -1, 1))[..., 0]
    curvature = transposed @ jacobian.reshape(count, -1, 6)
    turn = holds.turn[:, None]
    gradient[:, :3] -= turn * rotations.cross(pose.offsets, sight.offsets).sum(1)
    spread = np.swapaxes(pose.offsets, 1, 2) @ pose.offsets
    curvature[:, :3, :3] += turn[..., None] * (sight.spreads[:, None, None] * _IDENTITY - spread)
    gradient[:, 3:] += holds.shift * pose.shifts
    np.einsum('nii->ni', curvature)[:, 3:] += holds.shift
    return gradient, curvature


def errors_by_moves(
        sight: Sight, offsets: np.ndarray, depths: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """
    Derivatives `(N, K, 2, 6)` of errors by a further turn (radians) and shift (pivots' depths).

    offsets (N, K, 3), depths (N, K, 1), rays (N, K, 2) of the points
    """
    by_place = np.zeros((*rays.shape, 3))
    by_place[..., 0, 0] = by_place[..., 1, 1] = 1
    by_place[..., 2] = -rays
    by_place /= (depths * sight.sizes[:, None, None])[..., None]
    by_turn = rotations.cross(offsets[:, :, None], by_place)
    return np.concatenate([by_turn, by_place * sight.pivots[:, None, None, 2:]], axis=-1)


def _chosen(falls: np.ndarray, trial: _Pose, pose: _Pose) -> _Pose:
    """Take each body's trial where its cost falls."""
    return _Pose(*(
        np.where(falls.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
        for new, old in zip(vars(trial).values(), vars(pose).values())))


class Refiner:
    """
    Refines people of the body `body` by their keypoints in COCO's order.

    `refined` and `unrefined` count people since the start.
    """

    def __init__(
            self, body: BodyModel, settings: RefinementSettings = RefinementSettings()) -> None:
        self.settings = settings
        self.refined = self.unrefined = 0
        self._body = body
        self._face = face_vertices(body)

    def refine(
            self, people: Sequence[Person], keypoints: Sequence[PersonKeypoints],
            camera: Camera) -> list[Person]:
        """
        Turn and shift `people` as a whole, so that they show their joints at `keypoints`.

        keypoints  of COCO, each of the person with the same box; NaN where not found
        camera     of the image

        People keep their order, poses and shapes. Who has too few keypoints, or cannot be brought
        nearer to them, stays as it was.
        """
        found = {one.box.tobytes(): one for one in keypoints}
        sound = [
            (i, found[box], weights) for i, box in enumerate(one.box.tobytes() for one in people)
            if box in found and np.count_nonzero(
                weights := _weights(found[box])) >= self.settings.least]
        refined = list(people)
        if sound:
            rows, seen, weights = zip(*sound)
            moved = self._moved([people[i] for i in rows], seen, np.stack(weights), camera)
            for i, person in moved.items():
                refined[rows[i]] = person
            self.refined += len(moved)
            self.unrefined -= len(moved)
        self.unrefined += len(people)
        return refined

    def _moved(
            self, people: Sequence[Person], keypoints: Sequence[PersonKeypoints],
            weights: np.ndarray, camera: Camera) -> dict[int, Person]:
        """Return those who can be brought nearer to their keypoints, moved, by their places."""
        rotmats, _ = smpl_pose(people)
        joints = np.stack([person.joints3d for person in people])
        points = np.concatenate([self._faces(people, rotmats), joints[:, LIMBS]], axis=1)
        pixels = np.stack([one.keypoints for one in keypoints])
        boxes = np.stack([person.box for person in people])
        sureness = _sureness(np.stack([person.joint_confidence for person in people]))
        moves = fit_moves(_sight(points, joints[:, 0], pixels, weights, boxes, camera, *sureness),
                          self.settings)
        orients = rotations.matrix_to_axis_angle(moves.turns @ rotmats[:, 0])
        joints = _turned(joints, moves)
        joints2d = camera.project_ahead(joints)
        return {
            i: replace(
                person, global_orient=orients[i].astype(np.float32),
                # The pelvis, about which they turn, is where transl says.
                transl=(person.transl + moves.shifts[i]).astype(np.float32),
                joints3d=joints[i], joints2d=joints2d[i])
            for i, person in enumerate(people) if moves.better[i]}

    def _faces(self, people: Sequence[Person], rotmats: np.ndarray) -> np.ndarray:
        betas, transl = (np.stack([getattr(person, name) for person in people])
                         for name in ('betas', 'transl'))
        points, _ = self._body.skin_few(self._face, rotmats, betas)
        return points + transl[:, None]


def _weights(keypoints: PersonKeypoints) -> np.ndarray:
    """Confidences beside the person's highest; how high that is depends on a network's labels."""
    found = np.where(np.isfinite(keypoints.keypoints).all(axis=1), keypoints.confidence, 0)
    return found / max(float(found.max()), 1e-6)


def _sureness(confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Trusts and expected errors `(N,)` by what a network says of bodies' joints `(N, 24)`.

    Confidences are chances to be right, as those of keypoint_guided; a network that says 1 of all
    joints says nothing.
    """
    chance = np.clip(confidence.astype(np.float64), *_CHANCES)
    chance[confidence.min(axis=1) >= 1] = _USUAL_CHANCE
    mean = chance.mean(axis=1)
    odds = mean / (1 - mean) / (_USUAL_CHANCE / (1 - _USUAL_CHANCE))
    # The spread of a Laplace distribution along both axes that gives such a chance.
    spread = np.minimum(NEAR * MARGIN / -np.log(1 - np.sqrt(chance)), _MOST_SPREAD)
    return (np.clip(np.sqrt(odds), *_TRUSTS), 2 * np.sqrt(np.mean(spread ** 2, axis=1)))


def _sight(
        points: np.ndarray, pivots: np.ndarray, pixels: np.ndarray, weights: np.ndarray,
        boxes: np.ndarray, camera: Camera, trusts: np.ndarray, expected: np.ndarray) -> Sight:
    focal = np.array([camera.fx, camera.fy])
    rays = np.where(weights[..., None] > 0, (pixels - (camera.cx, camera.cy)) / focal, 0)
    pivots = pivots.astype(np.float64)
    return Sight(points - pivots[:, None], pivots, rays, weights.astype(np.float64),
                 ((boxes[:, 2:] - boxes[:, :2]) / focal).max(axis=1), trusts, expected)


def _turned(joints: np.ndarray, moves: Moves) -> np.ndarray:
    """Joints `(N, 24, 3)` float32 turned about the first of them, and shifted."""
    pelvis = joints[:, :1]
    return ((joints - pelvis) @ np.swapaxes(moves.turns, 1, 2) + pelvis
            + moves.shifts[:, None]).astype(np.float32)
