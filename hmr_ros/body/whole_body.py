# SPDX-License-Identifier: Apache-2.0
"""The body with fingers, jaw and expressions: SMPL-X-format skinning, and the files it is in."""

from __future__ import annotations

from dataclasses import dataclass
import functools
import hashlib
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from hmr_ros.body.loading import check_skinning, read_arrays, REQUIRED, skinning_arrays
from hmr_ros.body.model import BodyError, SkinnedModel
from hmr_ros.body.whole_body_joints import (
    BODY_JOINTS, CONTOUR, CONTOUR_VIEWS, HAND_JOINTS, JAW, JOINTS, LANDMARKS, LEFT_HAND,
    NAMED_VERTICES, NECK, SMPLX_NAMED_VERTICES, SMPLX_VERTICES)

OPEN_WHOLE_BODY = Path(__file__).parent / 'data' / 'open_whole_body.npz'
SHAPE, EXPRESSION = 10, 10
#: what a file has besides the arrays of any skinned body, with shapes.
_FACE_AND_HANDS: dict[str, tuple[int, ...]] = {
    'hands_meanl': (45,), 'hands_meanr': (45,),
    'lmk_faces_idx': (LANDMARKS,), 'lmk_bary_coords': (LANDMARKS, 3),
    'dynamic_lmk_faces_idx': (CONTOUR_VIEWS, CONTOUR),
    'dynamic_lmk_bary_coords': (CONTOUR_VIEWS, CONTOUR, 3)}
#: files of this width or more keep 300 coefficients of shape before those of expression.
_WIDE, _EXPRESSION_OF_WIDE = 400, 300
#: the contour turns with the neck up to so many degrees to either side.
_MOST_TURN = 39


@dataclass(frozen=True)
class WholeBodyModel(SkinnedModel):
    """
    An SMPL-X-format body: 55 joints, 10 shape and then 10 expression coefficients.

    hands_mean     (2, 15, 3)    rotation vectors of the left and right hand at rest
    named_vertices (21,)         vertices that count as joints, order of `NAMED_VERTICES`
    landmarks      (51, 3)       corner vertices of the faces that landmarks lie in
    landmark_share (51, 3)       and the shares of the corners
    contour        (79, 17, 3)   as landmarks, for each degree the neck is turned (row 0 straight,
                                 then to one side, from row 40 on to the other)
    contour_share  (79, 17, 3)
    """

    hands_mean: np.ndarray
    named_vertices: np.ndarray
    landmarks: np.ndarray
    landmark_share: np.ndarray
    contour: np.ndarray
    contour_share: np.ndarray

    def rotations(self, pose: np.ndarray) -> np.ndarray:
        """
        Rotation matrices `(N, 55, 3, 3)` float32 of what the whole-body network regresses.

        pose (N, 53, 3) rotation vectors: 22 of the body, 15 of the left and 15 of the right hand
        relative to `hands_mean`, jaw. The eyes look ahead.
        """
        full = np.zeros((len(pose), JOINTS, 3))
        full[:, :BODY_JOINTS] = pose[:, :BODY_JOINTS]
        full[:, JAW] = pose[:, -1]
        full[:, LEFT_HAND:] = pose[:, BODY_JOINTS:-1] + self.hands_mean.reshape(-1, 3)
        matrices = Rotation.from_rotvec(full.reshape(-1, 3)).as_matrix()
        return matrices.reshape(full.shape + (3,)).astype(np.float32)

    def posed(
            self, pose: np.ndarray, betas: np.ndarray, expression: np.ndarray,
            transl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Vertices `(N, V, 3)` and all joints `(N, 144, 3)`, metres.

        pose (N, 53, 3) as `rotations` reads it, betas (N, 10), expression (N, 10), transl (N, 3).
        """
        rotmats = self.rotations(pose)
        coefficients = np.concatenate([betas, expression], axis=1).astype(np.float32)
        vertices, joints = self.skin(rotmats, coefficients, transl)
        return vertices, self.joints(vertices, joints, rotmats)

    def joints(
            self, vertices: np.ndarray, joints: np.ndarray, rotmats: np.ndarray) -> np.ndarray:
        """
        All joints `(N, 144, 3)`: 55, named vertices, landmarks and contour of the face.

        vertices (N, V, 3) and joints (N, 55, 3) as `skin` gives them for rotmats (N, 55, 3, 3).
        """
        marks = (vertices[:, self.landmarks] * self.landmark_share[..., None]).sum(axis=2)
        view = self._contour_view(rotmats)
        people = np.arange(len(vertices))[:, None, None]
        corners = vertices[people, self.contour[view]]
        edge = (corners * self.contour_share[view][..., None]).sum(axis=2)
        return np.concatenate([joints, vertices[:, self.named_vertices], marks, edge], axis=1)

    @functools.cached_property
    def _neck_chain(self) -> list[int]:
        chain = [NECK]
        while self.parents[chain[-1]] >= 0:
            chain.append(int(self.parents[chain[-1]]))
        return chain

    def _contour_view(self, rotmats: np.ndarray) -> np.ndarray:
        """Row of `contour` for each person `(N,)`, by the turn of the neck about y."""
        world = functools.reduce(lambda below, j: rotmats[:, j] @ below, self._neck_chain[1:],
                                 rotmats[:, NECK])
        turn = -np.arctan2(-world[:, 2, 0], np.hypot(world[:, 0, 0], world[:, 1, 0]))
        degrees = np.round(np.clip(np.degrees(turn), -_MOST_TURN, _MOST_TURN)).astype(int)
        return np.where(degrees < 0, _MOST_TURN - degrees, degrees)


def load_whole_body(name_or_path: str | Path = 'open_whole_body') -> WholeBodyModel:
    """
    Load the open whole body (`'open_whole_body'`) or the user's SMPL-X-format file (.npz or .pkl).

    Raises BodyError when the file is missing, damaged, of another layout (SMPL, SMPL-H), or a
    pickle that wants to build anything but arrays.
    """
    path = OPEN_WHOLE_BODY if str(name_or_path) == 'open_whole_body' else Path(name_or_path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BodyError(
            f'whole-body model file {path} cannot be read ({error.strerror}). Use the open whole '
            'body, or get SMPL-X from https://smpl-x.is.tue.mpg.de under its own licence and give '
            'its path') from error
    arrays = read_arrays(
        path, content, (*REQUIRED, *_FACE_AND_HANDS, 'posedirs', 'named_vertices'))
    _check_layout(path, arrays)
    return _to_model(path, hashlib.sha256(content).hexdigest(), arrays)


def _check_layout(path: Path, arrays: dict[str, np.ndarray]) -> None:
    joints = arrays['kintree_table'].shape[-1] if 'kintree_table' in arrays else JOINTS
    if joints != JOINTS:
        kind = {24: 'an SMPL', 52: 'an SMPL-H'}.get(joints, 'another')
        raise BodyError(
            f'body model file {path} is {kind} body of {joints} joints, expected SMPL-X with '
            f'{JOINTS}; whole-body parameters need fingers, jaw and expressions')
    missing = [name for name in (*REQUIRED, *_FACE_AND_HANDS) if name not in arrays]
    if missing:
        raise BodyError(
            f'whole-body model file {path} lacks {", ".join(missing)}; an SMPL-X file holds '
            f'{", ".join((*REQUIRED, *_FACE_AND_HANDS))}')
    check_skinning(path, arrays, JOINTS, '(SMPL-X: 55 joints)')
    for name, shape in _FACE_AND_HANDS.items():
        if arrays[name].shape != shape:
            raise BodyError(f'whole-body model file {path}: {name} has shape '
                            f'{arrays[name].shape}, expected {shape}')
    if arrays['shapedirs'].shape[2] < SHAPE + EXPRESSION:
        raise BodyError(
            f'whole-body model file {path}: shapedirs has {arrays["shapedirs"].shape[2]} '
            f'coefficients, expected {SHAPE + EXPRESSION} or more (shape, then expression)')


def _to_model(path: Path, sha256: str, arrays: dict[str, np.ndarray]) -> WholeBodyModel:
    skinning = skinning_arrays(arrays)
    faces, shapedirs = skinning['faces'], arrays['shapedirs']
    first = _EXPRESSION_OF_WIDE if shapedirs.shape[2] >= _WIDE else SHAPE
    kept = np.concatenate(
        [shapedirs[..., :SHAPE], shapedirs[..., first:first + EXPRESSION]], axis=2)
    means = np.stack([arrays['hands_meanl'], arrays['hands_meanr']])
    return WholeBodyModel(
        name=path.stem, sha256=sha256, shapedirs=np.ascontiguousarray(kept, np.float32),
        hands_mean=means.reshape(2, HAND_JOINTS, 3).astype(np.float32),
        named_vertices=_named_vertices(path, arrays),
        landmarks=faces[arrays['lmk_faces_idx'].astype(np.int64)],
        landmark_share=arrays['lmk_bary_coords'].astype(np.float32),
        contour=faces[arrays['dynamic_lmk_faces_idx'].astype(np.int64)],
        contour_share=arrays['dynamic_lmk_bary_coords'].astype(np.float32), **skinning)


def _named_vertices(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    if 'named_vertices' in arrays:
        return arrays['named_vertices'].astype(np.int32)
    if len(arrays['v_template']) == SMPLX_VERTICES:
        return SMPLX_NAMED_VERTICES
    raise BodyError(
        f'whole-body model file {path} has {len(arrays["v_template"])} vertices, expected '
        f'{SMPLX_VERTICES} of SMPL-X, or an array named_vertices with the indices of '
        f'{", ".join(NAMED_VERTICES)}')
