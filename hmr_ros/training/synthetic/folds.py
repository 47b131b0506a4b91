# SPDX-License-Identifier: Apache-2.0
"""Folds of cloth and strands of hair as shape, where pictures alone would only tilt normals."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np

from hmr_ros.training.synthetic import anatomy as an
from hmr_ros.training.synthetic import appearance as ap
from hmr_ros.training.synthetic.anatomy import Anatomy
from hmr_ros.training.synthetic.appearance import Look
from hmr_ros.training.synthetic.cutouts import Dressed
from hmr_ros.training.synthetic.rasterizer import vertex_normals
from hmr_ros.training.synthetic.shading import fold_waves, noise, slot_of


def folded(person: Dressed, look: Look, anatomy: Anatomy, faces: np.ndarray) -> Dressed:
    """
    Move the clothed skin of a person out and in as its cloth folds; shells stay as they are.

    faces  (F, 3) of the body, whose vertices come first. Normals follow the new shape.
    """
    vertices, normals, own = person.vertices.copy(), person.normals.copy(), len(anatomy.parts)
    skin = np.ascontiguousarray(vertices[:own])
    _fold_out(skin, normals[:own], person.attributes, look.cloths, look.cuts, anatomy.face,
              float(anatomy.joints[12][1]), look.seed)
    vertices[:own], normals[:own] = skin, vertex_normals(skin, faces)
    return replace(person, vertices=vertices, normals=normals)


def smooth_cloths(look: Look) -> Look:
    """Return a look whose shading folds nothing, for shape that does."""
    cloths = look.cloths.copy()
    cloths[:, ap.FOLDS] = 0
    return replace(look, cloths=cloths)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _fold_out(
        vertices: np.ndarray, normals: np.ndarray, attributes: np.ndarray, cloths: np.ndarray,
        cuts: np.ndarray, face: np.ndarray, collar: float, seed: int) -> None:
    for i in range(vertices.shape[0]):
        at = attributes[i]
        slot = slot_of(at, cuts, face, collar, seed)
        if slot == ap.HAIR:
            height = 0.004 * (noise(at[an.REST_X] * 70, at[an.REST_Y] * 25, at[an.REST_Z] * 70,
                                    seed + 5) - 0.5)
        else:
            loose = cuts[ap.LOOSE_BOTTOM] if slot == ap.BOTTOM else cuts[ap.LOOSE_TOP]
            height = cloths[slot, ap.FOLDS] * _fold(at, loose, seed + 11)
        for k in range(3):
            vertices[i, k] += height * normals[i, k]


@numba.njit(cache=True, nogil=True, fastmath=True)
def _fold(at: np.ndarray, loose: float, seed: int) -> float:
    """Height in metres of the strongest cloth: ridges that cross, and smaller waves."""
    across, along, strength = (11.0, 20.0, 1.0) if loose < 0.012 else (8.0, 13.0, 1.4)
    gathered, a, b, c = fold_waves(at, across, along, seed)
    ridges = 0.012 * (0.3 - 2 * abs(a)) + 0.010 * (0.3 - 2 * abs(b))
    return strength * gathered * (ridges + 0.006 * c)
