# SPDX-License-Identifier: Apache-2.0
"""Rendered people with hands and faces, without a background, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from hmr_ros.body.markers import choose_leaves, choose_markers
from hmr_ros.body.model import BodyModel
from hmr_ros.body.whole_body import OPEN_WHOLE_BODY, WholeBodyModel
from hmr_ros.body.whole_body_joints import (
    BODY_JOINTS, HEAD, JAW, LEFT_HAND, LEFT_WRIST, MIRROR, RIGHT_HAND, SUPERVISED)
from hmr_ros.training.synthetic.anatomy import Anatomy, study
from hmr_ros.training.synthetic.cutout_file import Cutouts, outermost
from hmr_ros.training.synthetic.cutouts import Crowd, draw_betas, render_picture, stand, Window
from hmr_ros.training.synthetic.errors import SyntheticError
from hmr_ros.training.synthetic.expressions import sample_expressions, sample_jaws
from hmr_ros.training.synthetic.hands import sample_both_hands
from hmr_ros.training.synthetic.population import Population

#: joint of the 24 of SMPL that moves with each of the 55 of SMPL-X.
_SMPL_JOINT = np.array([*range(BODY_JOINTS), HEAD, HEAD, HEAD, *[22] * 15, *[23] * 15])
_MIDDLE = LEFT_HAND + 3
_CHUNK = 32
#: rows of the 51 landmarks.
_BROWS, _NOSE_TIP, _EYES, _UPPER_LIP, _LOWER_LIP = (
    slice(0, 10), 13, slice(19, 31), 34, 40)
_RIGHT_EYE, _SEAM, _LIP_CORNER = slice(19, 25), slice(43, 51), 37
#: how far behind the lips' seam the inside of the mouth begins, metres.
_BEHIND_LIPS = 0.02


@dataclass(frozen=True)
class WholePeople(Cutouts):
    """
    Rendered people of the open whole body; float32, metres in the camera's optical axes.

    pose       (N, 53, 3)     rotation vectors: 22 of the body, root in optical axes, 15 of the left
                              and 15 of the right hand relative to the mean hands, jaw
    betas      (N, 10)        shape
    expression (N, 10)        expression
    transl     (N, 3)         vertices = skinned vertices + transl
    joints3d   (N, 137, 3)    supervised joints
    parts      (N, 3, 32, 2)  hulls of left hand, right hand and face, pixels of the window
    """

    pose: np.ndarray
    betas: np.ndarray
    expression: np.ndarray
    transl: np.ndarray
    joints3d: np.ndarray
    parts: np.ndarray


def render_whole_people(
        body: WholeBodyModel, count: int, seed: int, size: int = 512,
        population: Population = Population()) -> WholePeople:
    """
    Render `count` people; the same arguments give the same people, and a longer store begins like
    a shorter one of its seed.

    body is the open whole body, whose expressions are known by name; size the side of the windows
    in pixels, population who is drawn. Raises SyntheticError for anything else.
    """
    if count < 1 or size < 32:
        raise SyntheticError(f'count={count}, size={size}; expected at least 1 person and 32 px')
    if body.name != OPEN_WHOLE_BODY.stem:
        raise SyntheticError(f'people with faces are made from {OPEN_WHOLE_BODY.stem} only, got '
                             f'{body.name}, whose expressions nobody has named')
    anatomy, columns = study_whole(body), {}
    for chunk, first in enumerate(range(0, count, _CHUNK)):
        rng = np.random.default_rng([seed, 53, chunk])
        rows = _render_chunk(body, anatomy, min(_CHUNK, count - first), rng, size, population)
        for name, values in rows.items():
            columns.setdefault(name, []).extend(values)
    return WholePeople.of(columns, size)


def _render_chunk(
        body: WholeBodyModel, anatomy: Anatomy, count: int, rng: np.random.Generator, size: int,
        population: Population) -> dict[str, list[np.ndarray]]:
    """Draw a whole chunk, so that its people do not depend on `count`, and render `count`."""
    betas, poses = draw_betas(rng, _CHUNK), population.poses(rng, _CHUNK)
    expression = sample_expressions(rng, _CHUNK)
    pose = np.concatenate([
        poses[:, :BODY_JOINTS], sample_both_hands(body, rng, _CHUNK),
        sample_jaws(rng, _CHUNK)[:, None]], axis=1).astype(np.float32)
    crowd = stand(body, body.rotations(pose), np.concatenate([betas, expression], axis=1),
                  population.views(rng, _CHUNK))
    pose[:, 0] = Rotation.from_matrix(crowd.rotmats[:, 0]).as_rotvec()
    joints = body.joints(crowd.vertices, crowd.joints3d, crowd.rotmats)[:, SUPERVISED]
    parts = part_vertices(body)
    columns: dict[str, list[np.ndarray]] = {}
    for i in range(count):
        row, window, _ = render_picture(body, anatomy, crowd, i, rng, size, population)
        row['parts'] = _part_hulls(crowd, i, parts, window)
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    known = {'pose': pose, 'betas': betas, 'expression': expression, 'transl': crowd.transl,
             'joints3d': joints}
    return {**columns, **{name: list(values[:count]) for name, values in known.items()}}


def _part_hulls(
        crowd: Crowd, i: int, parts: list[np.ndarray], window: Window) -> np.ndarray:
    """Outermost pixels `(3, 32, 2)` of hands and face of person `i`, hidden or not."""
    hulls = []
    for part in parts:
        points = crowd.vertices[i, part]
        pixels = points[:, :2] / points[:, 2:] * window.focal + window.centre
        hulls.append(outermost(cv2.convexHull(pixels.astype(np.float32)).reshape(-1, 2)))
    return np.stack(hulls).astype(np.float32)


def part_vertices(body: WholeBodyModel) -> list[np.ndarray]:
    """
    Indices of the vertices of left hand, right hand and face.

    A hand begins at the wrist; a face lies before the ears, from the chin to the forehead.
    """
    hands = []
    for joints in ([LEFT_WRIST, *range(LEFT_HAND, RIGHT_HAND)],
                   MIRROR[[LEFT_WRIST, *range(LEFT_HAND, RIGHT_HAND)]]):
        hands.append(np.flatnonzero(body.weights[:, joints].sum(axis=1) > 0.5))
    marks, edge = rest_face(body)
    place = body.v_template
    chin, brow = edge[:, 1].min(), marks[_BROWS, 1].mean()
    face = (body.weights[:, [HEAD, JAW]].sum(axis=1) > 0.5) & (place[:, 2] > edge[0, 2])
    face &= (place[:, 1] > chin) & (place[:, 1] < brow + 0.3 * (brow - chin))
    return [*hands, np.flatnonzero(face)]


def rest_face(body: WholeBodyModel) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks `(51, 3)` and contour `(17, 3)` of the mean body at rest."""
    points = [(body.v_template[corners] * share[..., None]).sum(axis=1) for corners, share in (
        (body.landmarks, body.landmark_share), (body.contour[0], body.contour_share[0]))]
    return points[0], points[1]


def study_whole(body: WholeBodyModel) -> Anatomy:
    """Measure the body at rest; eyes and mouth are where its landmarks are."""
    anatomy = study(as_smpl(body))
    pelvis = body.joint_template[0]
    marks, edge = (points - pelvis for points in rest_face(body))
    face = anatomy.face.copy()
    eyes, right_eye, seam = marks[_EYES], marks[_RIGHT_EYE], marks[_SEAM]
    upper, lower = marks[_UPPER_LIP, 1], marks[_LOWER_LIP, 1]
    face[:6] = (edge[:, 1].min(), 0.5 * (upper + lower), marks[_NOSE_TIP, 1], eyes[:, 1].mean(),
                marks[_BROWS, 1].mean(), np.abs(eyes[:, 0]).mean())
    unit = face[3] - face[0]
    features = np.float64([
        0.5 * np.ptp(right_eye[:, 0]) / unit, 0.5 * np.ptp(right_eye[:, 1]) / unit,
        marks[_LIP_CORNER, 0] / unit, 0.5 * (upper - lower) / unit, 0.8,
        seam[:, 2].max() - _BEHIND_LIPS])
    return replace(anatomy, face=face, features=features)


def as_smpl(body: WholeBodyModel) -> BodyModel:
    """Return the same mesh with 24 joints; fingers and jaw follow hands and head."""
    weights = np.zeros((len(body.weights), 24), np.float32)
    np.add.at(weights.T, _SMPL_JOINT, body.weights.T)
    rows = [*range(BODY_JOINTS), _MIDDLE, int(MIRROR[_MIDDLE])]
    joints = body.joint_template[rows]
    parents = np.array([*body.parents[:BODY_JOINTS], 20, 21], np.int32)
    return BodyModel(
        name=body.name, sha256=body.sha256, v_template=body.v_template,
        shapedirs=body.shapedirs[..., :10], posedirs=None, J_regressor=body.J_regressor[rows],
        weights=weights, parents=parents, faces=body.faces,
        leaf_vertices=choose_leaves(body.v_template, weights, joints),
        marker_vertices=choose_markers(body.v_template, body.faces, weights, joints))
