# SPDX-License-Identifier: Apache-2.0
"""Finer meshes of the same surface, by the rule of Loop, as one matrix for any body's arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.training.synthetic.errors import SyntheticError
from hmr_ros.training.synthetic.garments import Shell

#: shells are made of a few hundred quads.
_SHELL_TIMES = 2


def finer(body: WholeBodyModel) -> WholeBodyModel:
    """
    Split every triangle into four and smooth; the old vertices keep their numbers.

    Raises SyntheticError for a body with pose blend shapes, which the open ones do not have.
    """
    if body.posedirs is not None:
        raise SyntheticError(
            f'body {body.name} has pose blend shapes; expected the open whole body')
    matrix, faces = loop(body.faces, len(body.v_template))
    shapes = body.shapedirs.reshape(len(body.v_template), -1)
    regressor = np.zeros((len(body.J_regressor), matrix.shape[0]), np.float32)
    regressor[:, :len(body.v_template)] = body.J_regressor
    return replace(
        body, v_template=(matrix @ body.v_template).astype(np.float32),
        shapedirs=(matrix @ shapes).reshape(-1, *body.shapedirs.shape[1:]).astype(np.float32),
        weights=(matrix @ body.weights).astype(np.float32), J_regressor=regressor, faces=faces)


def smoothed(shell: Shell) -> Shell:
    """Return a shell of sixteen triangles for each, without the edges between them."""
    for _ in range(_SHELL_TIMES):
        # The second half are the first faces again, seen from the other side.
        matrix, faces = loop(shell.faces[:len(shell.faces) // 2], len(shell.vertices))
        shell = Shell(
            (matrix @ shell.vertices).astype(np.float32),
            np.concatenate([faces, faces[:, ::-1]]),
            (matrix @ shell.attributes).astype(np.float32),
            shell.parts[np.asarray(matrix.argmax(1)).ravel()])
    return shell


def loop(faces: np.ndarray, vertices: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """
    Return the matrix `(V + E, V)` that makes the finer vertices, and their faces `(4F, 3)` int32.

    faces  (F, 3) of `vertices` vertices; E is the number of edges. Open edges keep their middles.
    """
    corners = np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2)
    edges, of = np.unique(np.sort(corners, 1), axis=0, return_inverse=True)
    of = of.reshape(-1, 3)
    opposite = np.roll(faces, -2, 1).reshape(-1)
    matrix = sparse.vstack([_even(edges, vertices), _odd(edges, of.ravel(), opposite, vertices)])
    middle = vertices + of
    finer_faces = np.concatenate([
        np.stack([faces[:, k], middle[:, k], middle[:, k - 1]], 1) for k in range(3)] + [middle])
    return matrix.tocsr(), finer_faces.astype(np.int32)


def _even(edges: np.ndarray, vertices: int) -> sparse.csr_matrix:
    """Old vertices, each drawn to the mean of its neighbours."""
    ends = np.concatenate([edges, edges[:, ::-1]])
    around = sparse.csr_matrix(
        (np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (vertices, vertices))
    count = np.maximum(np.asarray(around.sum(1)).ravel(), 1)
    share = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / count)) ** 2) * (around.sum(1).A1 > 0)
    return sparse.diags(1 - share) + sparse.diags(share / count) @ around


def _odd(
        edges: np.ndarray, of: np.ndarray, opposite: np.ndarray,
        vertices: int) -> sparse.csr_matrix:
    """New vertices on the edges; `of` and `opposite` are edge and far corner of each half edge."""
    rows = np.arange(len(edges))
    closed = np.bincount(of, minlength=len(edges)) == 2
    near, far = np.where(closed, 0.375, 0.5), np.where(closed, 0.125, 0.0)
    return sparse.csr_matrix(
        (np.concatenate([near, near, far[of]]),
         (np.concatenate([rows, rows, of]), np.concatenate([edges[:, 0], edges[:, 1], opposite]))),
        (len(edges), vertices))
